// Python's pickles, as far as torch.save writes them: plain containers and tensors. Reading one calls nothing and builds
// nothing else, and what it can take is bounded.

import { Damaged } from "./archives.js";

const MOST_INSTRUCTIONS = 2_000_000;
const MOST_VALUES = 200_000;
const DEEPEST = 100;
const MOST_DIMENSIONS = 8;
const DTYPES = {
  DoubleStorage: ["float64", 8],
  FloatStorage: ["float32", 4],
  HalfStorage: ["float16", 2],
  BFloat16Storage: ["bfloat16", 2],
  LongStorage: ["int64", 8],
  IntStorage: ["int32", 4],
  ShortStorage: ["int16", 2],
  CharStorage: ["int8", 1],
  ByteStorage: ["uint8", 1],
  BoolStorage: ["bool", 1],
};

/** The pickle has what a fitted learner does not have, such as a call of a function. */
export class Unsafe extends Error {}

/** A number that Python writes with a point. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

export class Tuple {
  constructor(items) {
    this.items = items;
  }
}

/** A tensor as it is described, without its values. */
export class Tensor {
  constructor(storage, offset, shape, stride) {
    Object.assign(this, { storage, offset, shape, stride });
  }
}

class Storage {
  constructor(dtype, itemSize, key, length) {
    Object.assign(this, { dtype, itemSize, key, length });
  }
}

const MARK = Symbol("mark");
const ORDERED_DICT = Symbol("collections.OrderedDict");
const TENSOR = Symbol("torch._utils._rebuild_tensor_v2");

/**
 * Read a pickle: dictionaries become Maps, integers numbers (or BigInts where they are large), None null.
 *
 * @param {Uint8Array} bytes
 * @param {(key: string) => number | null} sizeOf the bytes of a storage, null where there is none
 */
export function unpickled(bytes, sizeOf) {
  return plain(new Reader(bytes, sizeOf).read());
}

class Reader {
  #bytes;
  #view;
  #sizeOf;
  #at = 0;
  #stack = [];
  #memo = new Map();

  constructor(bytes, sizeOf) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#sizeOf = sizeOf;
  }

  read() {
    try {
      for (let count = 0; count < MOST_INSTRUCTIONS; count += 1) {
        const code = this.#byte();
        if (code === 0x2e) return this.#pop();
        this.#step(code);
      }
    } catch (error) {
      if (error instanceof RangeError) throw new Damaged("its pickle is cut off");
      throw error;
    }
    throw new Damaged("its pickle is too long");
  }

  #step(code) {
    const stack = this.#stack;
    switch (code) {
      case 0x80: // PROTO
        return this.#byte();
      case 0x7d: // EMPTY_DICT
        return stack.push(new Map());
      case 0x5d: // EMPTY_LIST
        return stack.push([]);
      case 0x29: // EMPTY_TUPLE
        return stack.push(new Tuple([]));
      case 0x28: // MARK
        return stack.push(MARK);
      case 0x4e: // NONE
        return stack.push(null);
      case 0x88: // NEWTRUE
        return stack.push(true);
      case 0x89: // NEWFALSE
        return stack.push(false);
      case 0x4b: // BININT1
        return stack.push(this.#byte());
      case 0x4d: // BININT2
        return stack.push(this.#number("getUint16", 2));
      case 0x4a: // BININT
        return stack.push(this.#number("getInt32", 4));
      case 0x8a: // LONG1
        return stack.push(this.#long(this.#byte()));
      case 0x47: // BINFLOAT
        return stack.push(new Float(this.#number("getFloat64", 8, false)));
      case 0x58: // BINUNICODE
        return stack.push(this.#text(this.#number("getUint32", 4)));
      case 0x8c: // SHORT_BINUNICODE
        return stack.push(this.#text(this.#byte()));
      case 0x71: // BINPUT
        return this.#memo.set(this.#byte(), this.#top());
      case 0x72: // LONG_BINPUT
        return this.#memo.set(this.#number("getUint32", 4), this.#top());
      case 0x68: // BINGET
        return stack.push(this.#kept(this.#byte()));
      case 0x6a: // LONG_BINGET
        return stack.push(this.#kept(this.#number("getUint32", 4)));
      case 0x74: // TUPLE
        return stack.push(new Tuple(this.#sinceMark()));
      case 0x85: // TUPLE1 to TUPLE3
      case 0x86:
      case 0x87:
        return stack.push(new Tuple(this.#popped(code - 0x84)));
      case 0x61: // APPEND
        return this.#append(this.#popped(1));
      case 0x65: // APPENDS
        return this.#append(this.#sinceMark());
      case 0x73: // SETITEM
        return this.#set(this.#popped(2));
      case 0x75: // SETITEMS
        return this.#set(this.#sinceMark());
      case 0x63: // GLOBAL
        return stack.push(named(this.#line(), this.#line()));
      case 0x51: // BINPERSID
        return stack.push(this.#storage(this.#pop()));
      case 0x52: // REDUCE
        return this.#build();
      case 0x62: // BUILD
        return this.#state();
      default:
        throw new Unsafe(`instruction ${code} at byte ${this.#at - 1}`);
    }
  }

  /** REDUCE: the two things that torch.save writes as calls. */
  #build() {
    const [made, given] = this.#popped(2);
    if (made === ORDERED_DICT && given instanceof Tuple && given.items.length === 0) return this.#stack.push(new Map());
    if (made !== TENSOR || !(given instanceof Tuple)) throw new Unsafe("it calls a function");
    return this.#stack.push(tensorOf(given.items));
  }

  /** BUILD: torch keeps the versions of modules with a dictionary of weights; they are left out. */
  #state() {
    const [built, state] = this.#popped(2);
    if (!(built instanceof Map) || !(state instanceof Map) || state.size !== 1 || !state.has("_metadata")) {
      throw new Unsafe("it sets the state of an object");
    }
    this.#stack.push(built);
  }

  #storage(described) {
    const [word, kind, key, , length] = described instanceof Tuple ? described.items : [];
    if (word !== "storage" || !kind?.storage || typeof key !== "string" || !isSize(length)) {
      throw new Unsafe("a tensor is not described as torch describes tensors");
    }
    const [dtype, itemSize] = DTYPES[kind.storage];
    if (this.#sizeOf(key) !== length * itemSize) throw new Damaged(`a tensor does not have ${length} values`);
    return new Storage(dtype, itemSize, key, length);
  }

  #append(values) {
    const list = this.#top();
    if (!Array.isArray(list)) throw new Damaged("its pickle is broken");
    for (const value of values) list.push(value);
  }

  #set(pairs) {
    const map = this.#top();
    if (!(map instanceof Map) || pairs.length % 2) throw new Damaged("its pickle is broken");
    for (let at = 0; at < pairs.length; at += 2) {
      if (typeof pairs[at] !== "string" && typeof pairs[at] !== "number") throw new Unsafe("a key is neither text nor a number");
      map.set(pairs[at], pairs[at + 1]);
    }
  }

  #sinceMark() {
    const from = this.#stack.lastIndexOf(MARK);
    if (from < 0) throw new Damaged("its pickle is broken");
    const values = this.#stack.splice(from);
    values.shift();
    return values;
  }

  #popped(count) {
    if (this.#stack.length < count) throw new Damaged("its pickle is broken");
    const values = this.#stack.splice(-count);
    if (values.includes(MARK)) throw new Damaged("its pickle is broken");
    return values;
  }

  #pop() {
    return this.#popped(1)[0];
  }

  #top() {
    if (!this.#stack.length) throw new Damaged("its pickle is broken");
    return this.#stack.at(-1);
  }

  #kept(place) {
    if (!this.#memo.has(place)) throw new Damaged("its pickle is broken");
    return this.#memo.get(place);
  }

  #byte() {
    return this.#number("getUint8", 1);
  }

  #number(kind, size, little = true) {
    const value = this.#view[kind](this.#at, little);
    this.#at += size;
    return value;
  }

  #long(size) {
    const bytes = this.#part(size);
    let value = 0n;
    for (let at = size - 1; at >= 0; at -= 1) value = (value << 8n) | BigInt(bytes[at]);
    value = BigInt.asIntN(8 * size, value);
    const small = Number(value);
    return Number.isSafeInteger(small) ? small : value;
  }

  #text(size) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.#part(size));
    } catch (error) {
      if (error instanceof TypeError) throw new Damaged("it holds text that is not UTF-8");
      throw error;
    }
  }

  #line() {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > 200) throw new Damaged("its pickle is broken");
    const line = new TextDecoder().decode(this.#bytes.subarray(this.#at, end));
    this.#at = end + 1;
    return line;
  }

  #part(size) {
    if (this.#at + size > this.#bytes.length) throw new Damaged("its pickle is cut off");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }
}

function named(module, name) {
  if (module === "collections" && name === "OrderedDict") return ORDERED_DICT;
  if (module === "torch._utils" && name === "_rebuild_tensor_v2") return TENSOR;
  if (module === "torch" && Object.hasOwn(DTYPES, name)) return { storage: name };
  throw new Unsafe(`it names ${module}.${name}`);
}

function tensorOf([storage, offset, shape, stride]) {
  const sizes = shape instanceof Tuple && stride instanceof Tuple ? [...shape.items, ...stride.items] : [null];
  if (!(storage instanceof Storage) || ![offset, ...sizes].every(isSize) || shape.items.length !== stride.items.length) {
    throw new Unsafe("a tensor is not described as torch describes tensors");
  }
  if (shape.items.length > MOST_DIMENSIONS) throw new Unsafe("a tensor has too many dimensions");
  const count = shape.items.reduce((a, b) => a * b, 1);
  const last = shape.items.reduce((at, size, place) => at + (size - 1) * stride.items[place], offset);
  if (count && (last >= storage.length || count > storage.length)) throw new Damaged("a tensor is larger than its values");
  return new Tensor(storage, offset, shape.items, stride.items);
}

function isSize(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

/** The same value, after it was made sure that it is plain, of bounded size, and not inside itself. */
function plain(value) {
  let count = 0;
  const check = (one, depth) => {
    count += 1;
    if (count > MOST_VALUES || depth > DEEPEST) throw new Damaged("it holds more values than a fitted learner has");
    if (one === null || ["string", "number", "bigint", "boolean"].includes(typeof one)) return;
    if (one instanceof Float || one instanceof Tensor) return;
    if (Array.isArray(one)) one.forEach((item) => check(item, depth + 1));
    else if (one instanceof Tuple) one.items.forEach((item) => check(item, depth + 1));
    else if (one instanceof Map) one.forEach((item) => check(item, depth + 1));
    else throw new Unsafe("it holds something else");
  };
  check(value, 0);
  return value;
}

/** Values that follow each other in a pickle. A Tensor's storage has to be named in the archive. */
export class Writer {
  #parts = [];

  bytes(...values) {
    this.#parts.push(Uint8Array.from(values));
    return this;
  }

  text(value) {
    const encoded = new TextEncoder().encode(value);
    this.bytes(0x58);
    this.#fixed(4, "setUint32", encoded.length);
    this.#parts.push(encoded);
    return this;
  }

  /** None, true or false, text, a number (a whole one is an integer), a Float, or a list of these. */
  value(value) {
    if (value === null) return this.bytes(0x4e);
    if (typeof value === "boolean") return this.bytes(value ? 0x88 : 0x89);
    if (typeof value === "string") return this.text(value);
    if (Array.isArray(value)) {
      this.bytes(0x5d, 0x28);
      value.forEach((item) => this.value(item));
      return this.bytes(0x65);
    }
    if (value instanceof Tuple) return this.#numbers(value.items);
    if (typeof value === "bigint") return this.#large(value);
    if (value instanceof Float || !Number.isSafeInteger(value)) {
      this.bytes(0x47);
      return this.#fixed(8, "setFloat64", value instanceof Float ? value.value : value, false);
    }
    if (Math.abs(value) < 2 ** 31) {
      this.bytes(0x4a);
      return this.#fixed(4, "setInt32", value);
    }
    this.bytes(0x8a, 8);
    return this.#fixed(8, "setBigInt64", BigInt(value));
  }

  /** A contiguous tensor, whose values are a storage of its own. */
  tensor(type, key, shape) {
    const strides = shape.map((_, place) => shape.slice(place + 1).reduce((a, b) => a * b, 1));
    const length = shape.reduce((a, b) => a * b, 1);
    this.#name("torch._utils", "_rebuild_tensor_v2").bytes(0x28, 0x28).text("storage").#name("torch", type).text(key).text("cpu");
    this.value(length).bytes(0x74, 0x51).value(0).#numbers(shape).#numbers(strides).bytes(0x89);
    return this.#name("collections", "OrderedDict").bytes(0x29, 0x52, 0x74, 0x52);
  }

  get parts() {
    return this.#parts;
  }

  #numbers(values) {
    this.bytes(0x28);
    values.forEach((value) => this.value(value));
    return this.bytes(0x74);
  }

  /** An integer of any size, in two's complement. */
  #large(value) {
    const bits = (value < 0n ? -value : value).toString(2).length + 1;
    const size = Math.ceil(bits / 8);
    this.bytes(0x8a, size); // larger ones than of 255 bytes are read by nobody
    const whole = BigInt.asUintN(8 * size, value);
    for (let at = 0; at < size; at += 1) this.bytes(Number((whole >> BigInt(8 * at)) & 255n));
    return this;
  }

  #name(module, name) {
    this.#parts.push(new TextEncoder().encode(`c${module}\n${name}\n`));
    return this;
  }

  #fixed(size, kind, value, little = true) {
    const view = new DataView(new ArrayBuffer(size));
    view[kind](0, value, little);
    this.#parts.push(new Uint8Array(view.buffer));
    return this;
  }
}
