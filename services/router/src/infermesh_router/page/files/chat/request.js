// Makes the body of /v1/chat/completions of a conversation's messages and settings.
import { isRecord } from "./imported/fields.js";
import { ancestry } from "./tree.js";

const NUMBERS = ["temperature", "top_p", "max_tokens"];
const ESCAPED = { n: "\n", r: "\r", t: "\t", "\\": "\\" };

// Throws an Error that names the setting that is wrong.
export function requestOf(conversation, parent) {
  const settings = conversation.settings;
  if (!settings.model) throw new Error("Choose a model first.");
  const body = { model: settings.model, messages: messagesOf(conversation, parent), session_id: conversation.id };
  if (settings.device) body.device = settings.device;
  for (const name of NUMBERS) if (settings[name] !== "" && settings[name] !== undefined) body[name] = Number(settings[name]);
  if (settings.seed) body.seed = wholeNumber(settings.seed);
  const stops = stopsOf(settings.stop || "");
  if (stops.length) body.stop = stops;
  const schema = readSchema(settings.schema);
  if (schema) body.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  const tools = readTools(settings.tools);
  if (tools) body.tools = tools;
  return body;
}

// Seeds that receipts tell have up to 20 digits, more than numbers of JavaScript hold. Browsers of before 2025 round them.
const wholeNumber = (digits) => (JSON.rawJSON && /^-?\d+$/.test(digits) ? JSON.rawJSON(digits.replace(/^(-?)0+(?=\d)/, "$1")) : Number(digits));

// One a line, so that a new line inside of one is written as \n.
const stopsOf = (text) => text.split("\n").filter(Boolean).map((line) => line.replace(/\\([nrt\\])/g, (_, letter) => ESCAPED[letter]));

export const readSchema = (text) => parse(text, "The JSON schema", "an object, in {}", isRecord);
export const readTools = (text) => parse(text, "The list of tools", "a list, in []", Array.isArray);

function parse(text, what, wanted, isRight) {
  if (!text?.trim()) return null;
  let told;
  try {
    told = JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is not JSON: ${error.message}`);
  }
  if (!isRight(told)) throw new Error(`${what} must be ${wanted}.`);
  return told;
}

function messagesOf(conversation, parent) {
  const system = conversation.settings.system?.trim();
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const node of ancestry(conversation, parent)) messages.push(...(node.role === "user" ? [asked(node)] : answered(node)));
  return messages;
}

function asked({ content, images }) {
  if (!images?.length) return { role: "user", content };
  const pictures = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: [...pictures, ...(content ? [{ type: "text", text: content }] : [])] };
}

// An answer whose tool calls have no results yet is sent as its text.
function answered({ content, toolCalls, toolResults }) {
  const calls = (toolCalls || []).filter((call) => toolResults?.[call.id] !== undefined);
  if (!calls.length) return [{ role: "assistant", content: content || "" }];
  return [
    {
      role: "assistant", content: content || null,
      tool_calls: calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } })),
    },
    ...calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: toolResults[call.id] })),
  ];
}
