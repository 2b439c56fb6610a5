// Takes what is known out of a record that others wrote: each field has a reader, which gives nothing for a wrong type.
export const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

export const text = (value) => (typeof value === "string" ? value : undefined);
export const number = (value) => (Number.isFinite(value) ? value : undefined);
export const either = (value) => text(value) ?? number(value);

// A time in ms; one that is still to come is now, or it would outlast every change.
export const time = (value) => (Number.isFinite(value) ? Math.min(value, Date.now()) : undefined);

export const or = (read, otherwise) => (value) => read(value) ?? otherwise;

export const list = (read, most = Infinity) => (value) =>
  Array.isArray(value) ? value.slice(0, most).map(read).filter((each) => each !== undefined) : undefined;

// A record of these fields; those that are not there are read as undefined.
export const record = (fields) => (value) => {
  if (!isRecord(value)) return undefined;
  const told = Object.entries(fields).map(([name, read]) => [name, read(Object.hasOwn(value, name) ? value[name] : undefined)]);
  return Object.fromEntries(told.filter(([, each]) => each !== undefined));
};

// A record whose names are free.
export const named = (read) => (value) =>
  isRecord(value) ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, read(each)]).filter(([, each]) => each !== undefined)) : undefined;
