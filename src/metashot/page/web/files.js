// Files that were dropped, pasted or chosen, and the folders that they lie in.

/**
 * A file with the folders above it.
 * @typedef {{file: File, folders: string[]}} Found
 */

/** All files of a drop, also those in folders. Must be called before the drop event ends. @returns {Promise<Found[]>} */
export async function dropped(transfer) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return chosen(transfer.files);
  const found = [];
  for (const entry of entries) await walk(entry, [], found);
  return inOrder(found.filter(({ file }) => !isHidden(file.name)));
}

/** The files of a dialog. @returns {Found[]} */
export function chosen(files) {
  const found = [...files]
    .map((file) => ({ file, folders: (file.webkitRelativePath || file.name).split("/").slice(0, -1) }))
    .filter(({ file, folders }) => !isHidden(file.name) && !folders.some((folder) => folder.startsWith(".")));
  return inOrder(found);
}

/** The image files of a paste. @returns {Found[]} */
export function pasted(transfer) {
  return [...(transfer?.files ?? [])].map((file) => ({ file, folders: [] }));
}

export function holdsFiles(transfer) {
  return [...(transfer?.types ?? [])].includes("Files");
}

/**
 * What found files are for: those without a class of their own, and one class for each folder with files.
 * A single folder is a class of its own only if `alone` says so. Files beside sub-folders belong to no class.
 * @returns {{loose: File[], classes: Map<string, File[]>, beside: number}}
 */
export function sorted(found, alone) {
  const parents = new Set(found.filter(({ folders }) => folders.length > 1).map(({ folders }) => folders[0]));
  const classes = new Map();
  const loose = [];
  let beside = 0;
  for (const { file, folders } of found) {
    if (folders.length === 0) loose.push(file);
    else if (folders.length === 1 && parents.has(folders[0])) beside += 1;
    else {
      const name = folders.at(-1).trim();
      classes.set(name, [...(classes.get(name) ?? []), file]);
    }
  }
  if (classes.size === 1 && parents.size === 0 && !alone) {
    loose.push(...[...classes.values()].flat());
    classes.clear();
  }
  return { loose, classes, beside };
}

async function walk(entry, folders, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
    if (file) found.push({ file, folders });
    return;
  }
  if (entry.name.startsWith(".")) return;
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    // A reader gives at most a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
    if (some.length === 0) break;
    inside.push(...some);
  }
  for (const one of inside) await walk(one, [...folders, entry.name], found);
}

/** Files of folders in the order in which Python sorts their paths; loose files come first, as they were given. */
function inOrder(found) {
  const inFolders = found.filter(({ folders }) => folders.length > 0);
  inFolders.sort((one, other) => comparePaths([...one.folders, one.file.name], [...other.folders, other.file.name]));
  return [...found.filter(({ folders }) => folders.length === 0), ...inFolders];
}

function comparePaths(one, other) {
  const at = one.findIndex((part, place) => part !== other[place]);
  if (at < 0) return one.length - other.length;
  if (at >= other.length) return 1;
  return one[at] < other[at] ? -1 : 1;
}

function isHidden(name) {
  return name.startsWith(".") || name === "Thumbs.db" || name === "desktop.ini";
}
