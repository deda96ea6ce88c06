// The words of the back end in the browser, in the language of the document.

const WORDS = {
  en: {
    "browser.empty": "{name}: is empty",
    "browser.no_image": "{name}: is not an image that this browser can read",
    "browser.heic": "{name}: is a HEIC image, which cannot be read: convert it to JPEG or PNG",
    "browser.damaged": "{name}: is cut off or damaged",
    "browser.too_many_pixels": "{name}: has too many pixels to be read safely ({width} x {height})",
    "browser.too_long": "{name}: has {width} x {height} pixels, and {most} a side can be read",
    "browser.too_little_memory": "{name}: has {width} x {height} pixels, for which this device has too little memory: make it smaller",
    "browser.file_too_large": "{name}: has {size} MB, and {most} MB can be read",
    "browser.animated": "animated: its first frame is used",
    "browser.transparent": "transparent: shown on white",
        "browser.cmyk": "CMYK: converted to RGB",
"browser.sixteen_bits": "16 bits a channel: scaled to 8",
    "browser.too_few_classes": "at least two classes with examples are needed",
    "browser.too_many_classes": "there are {count} classes, and this page can tell {most} apart",
    "browser.too_many_examples": "there are {count} examples, and this page can hold {most}",
    "browser.named_twice": "two classes are named {name}: give each class a name of its own",
    "browser.no_fit": "nothing was learned yet",
    "browser.no_unknown": "this learner cannot tell what is unknown",
    "browser.not_loaded": "{file} could not be loaded from the web server that offers this page: {reason}",
    "browser.not_computed": "this browser could not compute the features: {reason}",
    "browser.not_finite": "this learner gives answers that are not finite: take other examples",
    "browser.label_too_long": "the name of a class has more than {most} characters and cannot be saved",
    "browser.label_broken": "the name of a class has characters that cannot be saved",
    "browser.no_learner": "{name}: is not a fitted learner; allowed: a .fewshot file that metashot saved",
    "browser.learner_damaged": "{name}: is damaged or no .fewshot file that metashot saved ({reason})",
    "browser.learner_unsafe": "{name}: holds more than plain containers and tensors ({reason}), and nothing of it was read",
    "browser.checkpoint": "{name}: is a checkpoint; give a .fewshot file, or serve it with python -m metashot.page ckpt=...",
    "browser.other_learner": "{name}: was fitted with another learner than that of this page ({what} differ): open it with python -m metashot.page ckpt=...",
    "browser.weights": "its weights",
    "browser.settings": "its settings",
    "browser.data": "its training data",
  },
  zh: {
    "browser.empty": "{name}:文件是空的",
    "browser.no_image": "{name}:不是此浏览器能读取的图像",
    "browser.heic": "{name}:是 HEIC 图像,无法读取:请转换为 JPEG 或 PNG",
    "browser.damaged": "{name}:文件不完整或已损坏",
    "browser.too_many_pixels": "{name}:像素过多,无法安全读取({width} x {height})",
    "browser.too_long": "{name}:有 {width} x {height} 像素,每边最多可读取 {most} 像素",
    "browser.too_little_memory": "{name}:有 {width} x {height} 像素,此设备内存不足:请缩小图像",
    "browser.file_too_large": "{name}:有 {size} MB,最多可读取 {most} MB",
    "browser.animated": "动画:使用第一帧",
    "browser.transparent": "透明:以白色为背景",
    "browser.cmyk": "CMYK:已转换为 RGB",
    "browser.sixteen_bits": "每通道 16 位:缩放到 8 位",
    "browser.too_few_classes": "至少需要两个有样本的类别",
    "browser.too_many_classes": "有 {count} 个类别,此页面最多可区分 {most} 个",
    "browser.too_many_examples": "有 {count} 个样本,此页面最多可容纳 {most} 个",
    "browser.named_twice": "有两个类别都名为 {name}:请为每个类别取不同的名称",
    "browser.no_fit": "尚未学习任何内容",
    "browser.no_unknown": "此学习器无法判断什么是未知的",
    "browser.not_loaded": "无法从提供此页面的网络服务器加载 {file}:{reason}",
    "browser.not_computed": "此浏览器无法计算特征:{reason}",
    "browser.not_finite": "此学习器给出了非有限的答案:请使用其他样本",
    "browser.label_too_long": "某个类别的名称超过 {most} 个字符,无法保存",
    "browser.label_broken": "某个类别的名称含有无法保存的字符",
    "browser.no_learner": "{name}:不是已拟合的学习器;可用:metashot 保存的 .fewshot 文件",
    "browser.learner_damaged": "{name}:已损坏,或不是 metashot 保存的 .fewshot 文件({reason})",
    "browser.learner_unsafe": "{name}:含有普通容器和张量之外的内容({reason}),没有读取其中任何内容",
    "browser.checkpoint": "{name}:是检查点;请提供 .fewshot 文件,或用 python -m metashot.page ckpt=... 打开",
    "browser.other_learner": "{name}:由与此页面不同的学习器拟合({what}不同):请用 python -m metashot.page ckpt=... 打开",
    "browser.weights": "权重",
    "browser.settings": "设置",
    "browser.data": "训练数据",
  },
};

/** The words for a key, with values in place of {name}. */
export function say(key, values = {}) {
  const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
  return (WORDS[language][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? value.toLocaleString(language) : String(value ?? "");
  });
}

export { WORDS };
