// The lines of Python that do what the page does. They run as they are: a test runs them.

// What would change how a line is shown, such as marks of the direction of writing.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A text as a literal of Python, whose escapes those of JSON are. */
export function quoted(text) {
  return JSON.stringify(text).replace(UNSEEN, (letter) => `\\U${letter.codePointAt(0).toString(16).padStart(8, "0")}`);
}

/** Lines that read the saved learner. */
export function linesOfSaved(fileName, unknown) {
  return ["import metashot", "", `learner = metashot.load_fitted(${quoted(fileName)})`, `print(learner.predict(["query.png"]${rate(unknown)}))`].join("\n");
}

/** Lines that fit the learner to a folder with a sub-folder for each class. */
export function linesOfFolder(facts, isFitted, unknown) {
  const load = isFitted ? "load_fitted" : "load";
  return [
    "from pathlib import Path",
    "",
    "import metashot",
    "",
    'images = sorted(Path("examples").glob("*/[!.]*"))',
    "labels = [image.parent.name for image in images]",
    `learner = metashot.${load}(${quoted(facts.checkpoint)}).fit(images, labels)`,
    `print(learner.predict(["query.png"]${rate(unknown)}))`,
  ].join("\n");
}

function rate(unknown) {
  return unknown === null ? "" : `, unknown=${unknown}`;
}
