// What the page says about itself: how far learning is, whether the server answers, and which learner this is.

import { showError } from "./notices.js";
import { duration, hush, tell } from "./words.js";

const SAID_FOR = 8000; // ms that the server's return is said

/** Say in the first step how far learning is. */
export function followLearning(learning) {
  const place = document.getElementById("learned");
  const error = document.getElementById("learn-error");
  const show = () => {
    const { missing, lesson } = learning;
    place.classList.toggle("is-ready", missing === null && lesson !== null);
    if (learning.error) showError(error, learning.error);
    else hush(error);
    if (missing) tell(place, ...missing);
    else if (lesson) {
      const examples = lesson.classes.reduce((sum, one) => sum + one.examples.length, 0);
      tell(place, "learned", { examples, classes: lesson.classes.length, seconds: duration(lesson.seconds) });
    } else if (learning.error) hush(place);
    else tell(place, "learning");
  };
  learning.addEventListener("learned", show);
  learning.addEventListener("learning", show);
  show();
}

/** Say when the server is lost, and when it is back. */
export function followConnection(connection) {
  const banner = document.getElementById("banner");
  let timer = null;
  const show = (key, isBack) => {
    clearTimeout(timer);
    tell(banner, key);
    banner.hidden = false;
    banner.classList.toggle("is-back", isBack);
    if (isBack) timer = setTimeout(() => (banner.hidden = true), SAID_FOR);
  };
  connection.addEventListener("lost", () => show("server.lost", false));
  connection.addEventListener("other-learner", () => show("server.other", false));
  connection.addEventListener("back", () => show("server.back", true));
}

/** Say which learner this is, and how its pictures are shown. */
export function showLearner(facts) {
  const key = facts.checkpoint === facts.trained_on ? "about.learner-of-data" : "about.learner"; // no name twice
  tell(document.getElementById("about-learner"), key, {
    algorithm: facts.algorithm, checkpoint: facts.checkpoint, data: facts.trained_on, version: facts.version,
  });
  const pictures = document.getElementById("about-pictures");
  const [, height, width] = facts.shape;
  tell(pictures, facts.of_drawings ? "about.drawings" : "about.pictures", { height, width });
}
