// The webcam: a live view and a button that takes a picture, or several while it is held. Nothing is recorded.

import { make, sign } from "./elements.js";
import { hush, tell } from "./words.js";

const SIDE = 480; // of a picture, the square in the middle of what the camera sees
const HELD_AFTER = 600; // ms after which a button that is held takes more
const HELD_EVERY = 300; // ms between these

const REASONS = {
  NotAllowedError: "camera.refused",
  SecurityError: "camera.refused",
  NotFoundError: "camera.none",
  OverconstrainedError: "camera.none",
  NotReadableError: "camera.busy",
  AbortError: "camera.busy",
};

export class Camera {
  element;
  #video;
  #take;
  #error;
  #stream = null;
  #wanted = false;
  #held = null;
  #taken;
  #start = make("span");

  /** @param {(blob: Blob) => void} taken called with each picture */
  constructor(taken) {
    this.#taken = taken;
    this.#video = make("video", { playsinline: true, autoplay: true, muted: true });
    this.#video.muted = true; // the attribute alone does not mute what is made by a script
    tell(this.#video, "camera.view", {}, "aria-label");
    this.#error = make("p.error", { role: "alert" });
    this.#take = make("button.primary.take", { type: "button", disabled: true }, sign("●"), tell(make("span"), "camera.take"));
    this.retry = make("button.quiet", { type: "button", hidden: true, on: { click: () => this.#startByHand() } }, this.#start);
    const hint = tell(make("p.hint"), "camera.hold");
    this.element = make("div.camera", {}, make("div.paper", {}, this.#video), make("div.row", {}, this.#take, this.retry), this.#error, hint);
    const take = this.#take;
    take.addEventListener("pointerdown", (event) => event.button === 0 && this.#hold());
    take.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault(); // else the release would take one more
      if (!event.repeat) this.#hold();
    });
    for (const type of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) take.addEventListener(type, () => this.#release());
    take.addEventListener("click", (event) => {
      if (event.detail === 0) this.#picture(); // pressed by assistive technology, without a pointer
    });
    take.addEventListener("contextmenu", (event) => event.preventDefault());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#stop();
      else if (this.#wanted) this.start();
    });
  }

  /** Offer a button that switches the camera on. */
  offer() {
    if (this.#stream) return;
    this.#offer("camera.start");
  }

  async start() {
    this.#wanted = true;
    if (this.#stream) return;
    hush(this.#error);
    this.retry.hidden = true;
    if (!navigator.mediaDevices?.getUserMedia) {
      tell(this.#error, window.isSecureContext ? "camera.none" : "camera.insecure");
      return;
    }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 } }, audio: false });
      if (!this.#wanted || this.#stream) {
        end(stream);
        return;
      }
      this.#stream = stream;
      stream.getVideoTracks()[0]?.addEventListener("ended", () => this.#lost());
      this.#video.srcObject = stream;
      await this.#video.play();
      this.#take.disabled = false;
    } catch (error) {
      if (!this.#wanted) return;
      this.#stop();
      tell(this.#error, REASONS[error.name] ?? "camera.failed", { reason: error.message });
      this.#offer("camera.again");
    }
  }

  /** Go on after the element was moved in the page, where browsers pause. */
  resume() {
    if (this.#stream) this.#video.play().catch(() => {});
  }

  /** Switch the camera off. */
  stop() {
    this.#wanted = false;
    this.#stop();
    hush(this.#error);
  }

  #stop() {
    this.#release();
    if (this.#stream) end(this.#stream);
    this.#stream = null;
    this.#video.srcObject = null;
    this.#take.disabled = true;
  }

  #lost() {
    this.#stop();
    tell(this.#error, "camera.lost");
    this.#offer("camera.again");
  }

  #offer(key) {
    tell(this.#start, key);
    this.retry.hidden = false;
  }

  /** The button goes once the camera is on: its focus goes to the next one. */
  async #startByHand() {
    await this.start();
    if (document.activeElement === document.body) (this.#take.disabled ? this.retry : this.#take).focus();
  }

  #hold() {
    this.#release();
    this.#picture();
    this.#held = setTimeout(() => {
      this.#held = setInterval(() => this.#picture(), HELD_EVERY);
    }, HELD_AFTER);
  }

  #release() {
    clearTimeout(this.#held); // ends an interval, too
    this.#held = null;
  }

  #picture() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (!width || !height) return;
    const side = Math.min(width, height);
    const canvas = make("canvas", { width: SIDE, height: SIDE });
    canvas.getContext("2d").drawImage(this.#video, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
    canvas.toBlob((blob) => blob && this.#taken(blob), "image/png");
  }
}

function end(stream) {
  for (const track of stream.getTracks()) track.stop();
}
