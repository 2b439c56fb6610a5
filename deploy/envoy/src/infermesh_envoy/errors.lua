-- Turns the router's errors into OpenAI's, Anthropic's or Ollama's error objects (KServe's are as Ollama's), and refuses an upload that is too large,
-- or for which there is no memory, after it has ended.
-- Errors that Envoy answers by itself are handled by local_reply_config, not here.

errors = {} -- global, so that the tests can call it

-- begin of the table that tools/error_types.py writes
local NAMES, TYPES = {}, {} -- google.rpc.Code -> its name, OpenAI's type
NAMES[1], TYPES[1] = "cancelled", "server_error"
NAMES[2], TYPES[2] = "unknown", "server_error"
NAMES[3], TYPES[3] = "invalid_argument", "invalid_request_error"
NAMES[4], TYPES[4] = "deadline_exceeded", "server_error"
NAMES[5], TYPES[5] = "not_found", "invalid_request_error"
NAMES[6], TYPES[6] = "already_exists", "invalid_request_error"
NAMES[7], TYPES[7] = "permission_denied", "permission_error"
NAMES[8], TYPES[8] = "resource_exhausted", "rate_limit_error"
NAMES[9], TYPES[9] = "failed_precondition", "invalid_request_error"
NAMES[10], TYPES[10] = "aborted", "invalid_request_error"
NAMES[11], TYPES[11] = "out_of_range", "invalid_request_error"
NAMES[12], TYPES[12] = "unimplemented", "server_error"
NAMES[13], TYPES[13] = "internal", "server_error"
NAMES[14], TYPES[14] = "unavailable", "server_error"
NAMES[15], TYPES[15] = "data_loss", "server_error"
NAMES[16], TYPES[16] = "unauthenticated", "authentication_error"
local ANTHROPIC = {} -- HTTP status -> Anthropic's type
ANTHROPIC[400] = "invalid_request_error"
ANTHROPIC[401] = "authentication_error"
ANTHROPIC[403] = "permission_error"
ANTHROPIC[404] = "not_found_error"
ANTHROPIC[413] = "request_too_large"
ANTHROPIC[429] = "rate_limit_error"
ANTHROPIC[500] = "api_error"
ANTHROPIC[504] = "timeout_error"
ANTHROPIC[529] = "overloaded_error"
-- end of the table
local OVERLOADED = 529 -- what Anthropic's clients know instead of 503
local ENDLESS = "/mesh/v1/events" -- a stream that never ends: HEAD would wait for its end
local VERSION = "anthropic-version" -- the header that Anthropic's clients send
local UTF8 = { -- the byte sequences of characters beyond ASCII
  "[\194-\223][\128-\191]", "\224[\160-\191][\128-\191]", "[\225-\236\238\239][\128-\191][\128-\191]",
  "\237[\128-\159][\128-\191]", "\240[\144-\191][\128-\191][\128-\191]",
  "[\241-\243][\128-\191][\128-\191][\128-\191]", "\244[\128-\143][\128-\191][\128-\191]",
}
local SMALL_BYTES = 2 ^ 16 -- bodies up to this size are not counted
local STATUSES = { ['"request_too_large"'] = 413, ['"unsupported_encoding"'] = 415 } -- where gRPC's code gives a poorer one
local DEPLOYMENT = "x-infermesh-deployment" -- the model in a path of Azure's form
local QUERY = "x-infermesh-query" -- what stood behind the question mark of the path
local MAX_QUERY_CHARS = 4096
local FINAL = { [4] = true, [12] = true } -- deadline passed, unimplemented: the same request would end so again
local NAMED_PATHS = { -- what is before a name, the name with its version, what is after it; the first that fits counts
  "^(/v2/repository/models/)(.+)(/load)$", "^(/v2/repository/models/)(.+)(/unload)$",
  "^(/v2/systemsharedmemory/region/)(.+)(/register)$", "^(/v2/systemsharedmemory/region/)(.+)(/unregister)$",
  "^(/v2/systemsharedmemory/region/)(.+)(/status)$",
  "^(/v2/models/)(.+)(/infer)$", "^(/v2/models/)(.+)(/generate)$", "^(/v2/models/)(.+)(/generate_stream)$",
  "^(/v2/models/)(.+)(/ready)$", "^(/v2/models/)(.+)(/config)$", "^(/v2/models/)(.+)(/stats)$",
  "^(/v2/models/)(.+)(/?)$",
}
local GRPC_HEADERS = { "grpc-status", "grpc-message", "grpc-status-details-bin" }

-- The position of the quote that closes the string opened at `at`.
local function closing_quote(text, at)
  repeat
    at = text:find('["\\]', at + 1)
    local escape = text:sub(at, at) == "\\"
    if escape then at = at + 1 end
  until not escape
  return at
end

-- Reads the JSON value at `at`; returns it and the position of its end. Strings keep their quotes and escapes, and
-- numbers and words stay text, because values are only compared or put back into JSON. Raises an error for text that
-- is not JSON.
function errors.read(text, at)
  at = text:find("%S", at)
  local first = text:sub(at, at)
  if first == '"' then
    local stop = closing_quote(text, at)
    return text:sub(at, stop), stop
  elseif first ~= "{" and first ~= "[" then
    local stop = assert(text:match("^[%w+.-]+()", at)) - 1
    return text:sub(at, stop), stop
  end
  local close = first == "{" and "}" or "]"
  local value = {}
  at = text:find("%S", at + 1)
  while text:sub(at, at) ~= close do
    local key = #value + 1
    if close == "}" then
      local stop = closing_quote(text, at)
      key = text:sub(at + 1, stop - 1)
      at = assert(text:match("^%s*:()", stop + 1))
    end
    value[key], at = errors.read(text, at)
    at = assert(text:match("^%s*,?%s*()", at + 1))
  end
  return value, at
end

-- Writes a string as a JSON string.
function errors.quote(text)
  local escaped = text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end)
  return '"' .. escaped .. '"'
end

-- The detail of the given google.rpc type in a google.rpc.Status, or an empty table.
local function detail(status, name)
  for _, found in ipairs(status.details or {}) do
    if found["@type"] == '"type.googleapis.com/google.rpc.' .. name .. '"' then return found end
  end
  return {}
end

-- Makes OpenAI's error object from a google.rpc.Status, as read() returns it.
function errors.object(http_status, status)
  local by_status = http_status < 499 and "invalid_request_error" or "server_error"
  local kind = TYPES[tonumber(status.code)] or by_status
  local violation = (detail(status, "BadRequest").field_violations or {})[1] or {}
  local reason = detail(status, "ErrorInfo").reason or errors.quote(NAMES[tonumber(status.code)] or "unknown")
  return string.format('{"error":{"message":%s,"type":"%s","param":%s,"code":%s}}',
    status.message or '""', kind, violation.field or "null", reason:lower())
end

-- The error object for what this script refuses by itself.
local function refusal(http_status, code, message, reason)
  local info = { ["@type"] = '"type.googleapis.com/google.rpc.ErrorInfo"', reason = errors.quote(reason) }
  return errors.object(http_status, { code = code, message = errors.quote(message), details = { info } })
end

-- The error object for a request body larger than `limit` bytes.
function errors.too_large(limit)
  return refusal(413, nil, string.format("The request body is larger than %g MiB", limit / 2 ^ 20), "request_too_large")
end

-- Makes Anthropic's error object and its status of an error in OpenAI's shape.
function errors.anthropic(http_status, text, request_id)
  local status = http_status == 503 and OVERLOADED or http_status
  local kind = ANTHROPIC[status] or (status < 499 and ANTHROPIC[400] or ANTHROPIC[500])
  local error = errors.read(text, 1).error
  return status, string.format(
    '{"type":"error","error":{"type":"%s","message":%s,"details":{"error_code":%s}},"request_id":%s}',
    kind, error.message, error.code, errors.quote(request_id))
end

-- Makes Ollama's error object, which is KServe's too, of an error in OpenAI's shape.
function errors.ollama(text)
  return string.format('{"error":%s}', errors.read(text, 1).error.message)
end

-- The bytes of the bodies that are arriving now: of all, and by the client's address.
bodies = { held = 0, clients = {} } -- global, so that the tests can call it

function bodies.count(client, bytes)
  bodies.held = bodies.held + bytes
  local theirs = (bodies.clients[client] or 0) + bytes
  bodies.clients[client] = theirs ~= 0 and theirs or nil
end

-- Opens the account of one body. grow() counts up to a size and says whether there is room; close() gives that back. When
-- a request ends before its body has arrived, Envoy drops the account, and the collector closes it.
function bodies.open(client, total_limit, client_limit)
  local account, counted = newproxy(true), 0
  local function full(more)
    return bodies.held + more > total_limit or (bodies.clients[client] or 0) + more > client_limit
  end
  local methods = {}
  function methods.grow(size)
    local more = size - counted
    if full(more) then collectgarbage() end
    if full(more) then return false end
    bodies.count(client, more)
    counted = size
    return true
  end
  function methods.close()
    bodies.count(client, -counted)
    counted = 0
  end
  getmetatable(account).__index = methods
  getmetatable(account).__gc = methods.close
  return account
end

-- Seconds after which to try again, a whole number of at least 1; nil when the status does not say.
function errors.retry_after(status)
  local seconds = (detail(status, "RetryInfo").retry_delay or ""):match('^"([%d.]+)s"$')
  return seconds and tostring(math.max(1, math.ceil(tonumber(seconds))))
end

-- Reads the status that Envoy's transcoder wrote as the body. When a detail has a type that the transcoder does not
-- know, there is no such body, and the headers give the status.
function errors.status(text, grpc_status, grpc_message)
  local ok, status = pcall(errors.read, text, 1)
  if ok and type(status) == "table" then return status end
  local message = (grpc_message or ""):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  if not grpc_status then message = "The router's answer is not gRPC" end
  return { code = grpc_status, message = errors.quote(message) }
end

-- Whether a client's if-none-match names the tag of an answer: it has that already.
function errors.is_known(known, tag)
  return tag ~= nil and known:find(tag, 1, true) ~= nil
end

-- Whether a path is UTF-8 (RFC 3629) when unescaped: protobuf accepts no other string.
function errors.is_utf8(path)
  local text = path:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  for _, sequence in ipairs(UTF8) do text = text:gsub(sequence, " ") end
  return not text:find("[\128-\255]")
end

local function answer(handle, http_status, body, text, noted)
  local headers = handle:headers()
  if noted.anthropic then http_status, text = errors.anthropic(http_status, text, noted.anthropic) end
  if noted.ollama then text = errors.ollama(text) end
  headers:replace(":status", tostring(http_status))
  headers:replace("content-type", "application/json")
  for _, name in ipairs(GRPC_HEADERS) do headers:remove(name) end
  body:setBytes(text)
end

local BUSY = "Too many large request bodies are arriving; try again"

-- Reads the body as it arrives, and drops what is beyond a limit: refusing a request while the client still sends would
-- reset its connection, so the answer refuses it afterwards.
local function read_body(handle)
  local limits = handle:metadata() -- invalid once the script has waited for a chunk, like all objects of the handle
  if limits:get("is_stream") then return end -- the router counts each message; the stream is as long as its client likes
  local limit = limits:get("max_body_bytes") or math.huge
  local total_limit, client_limit = limits:get("max_arriving_bytes"), limits:get("max_client_arriving_bytes")
  if not total_limit then -- nothing serves this path, and nobody reads the body
    for chunk in handle:bodyChunks() do chunk:setBytes("") end
    return
  end
  local size = tonumber(handle:headers():get("content-length") or 0)
  local received, account, busy = 0, nil, false
  for chunk in handle:bodyChunks() do
    received = received + chunk:length()
    size = math.max(size, received)
    if received > SMALL_BYTES and size <= limit and not busy then
      local client = handle:streamInfo():downstreamRemoteAddress():gsub(":%d+$", "")
      account = account or bodies.open(client, total_limit, client_limit)
      busy = not account.grow(size) -- all that is announced, so that of many bodies at once the first ones pass
    end
    if size > limit or busy then chunk:setBytes("") end
  end
  if account then account.close() end
  local noted = handle:streamInfo():dynamicMetadata()
  if size > limit then noted:set("infermesh", "too_large", limit) elseif busy then noted:set("infermesh", "busy", true) end
end

-- Removes headers that gRPC would read from a REST request, but for a valid grpc-timeout: bad ones fail the router.
local function drop_grpc_headers(headers)
  if (headers:get("content-type") or ""):find("^application/grpc") then return end
  local dropped = {}
  for name, value in pairs(headers) do
    local is_grpc = name:find("^grpc%-") or name:find("%-bin$")
    local is_timeout = name == "grpc-timeout" and #value <= 9 and value:find("^%d+[HMSmun]$")
    if is_grpc and not is_timeout then table.insert(dropped, name) end
  end
  for _, name in ipairs(dropped) do headers:remove(name) end
end

-- Tells the router, which unpacks the body, how it is compressed.
local function tell_encoding(headers)
  local encoding = (headers:get("content-encoding") or ""):lower():sub(1, 80):gsub("[^%w%p ]", "?")
  for _, name in ipairs({ "content-encoding", "x-infermesh-body-encoding" }) do headers:remove(name) end
  if encoding ~= "" then headers:add("x-infermesh-body-encoding", encoding) end
end

-- The path as OpenAI has it, for one in Azure's form: /openai/deployments/NAME/... and /openai/v1/...; and the model that it
-- names, or nil.
function errors.openai_path(path)
  local deployment, rest = path:match("^/openai/deployments/([^/]+)/(.+)$")
  if deployment then return "/v1/" .. rest, deployment end
  return (path:gsub("^/openai/v1/", "/v1/")), nil
end

local function rewrite_azure(headers, path)
  local openai, deployment = errors.openai_path(path)
  headers:remove(DEPLOYMENT) -- only this script says it
  if deployment then headers:add(DEPLOYMENT, deployment) end
  if openai ~= path then headers:replace(":path", openai) end
end

-- The path of the Open Inference Protocol with the slashes escaped that are part of a name: its clients leave them.
function errors.kserve_path(path)
  for _, pattern in ipairs(NAMED_PATHS) do
    local before, rest, after = path:match(pattern)
    if before then
      local name, version = rest:match("^(.+)(/versions/[^/]+)$")
      local escaped = (name or rest):gsub("/", "%%2F")
      return before .. escaped .. (version or "") .. after
    end
  end
  return path
end

local function escape_name(headers, path)
  local escaped = errors.kserve_path(path)
  if escaped ~= path then headers:replace(":path", escaped) end
end

-- Marks requests of Anthropic's clients with the header that they send, and notes their id, for the answer.
local function note_anthropic(handle, headers, path)
  if not headers:get(VERSION) then
    if path ~= "/v1/messages" and path:sub(1, 13) ~= "/v1/messages/" then return end
    headers:add(VERSION, "2023-06-01")
  end
  handle:streamInfo():dynamicMetadata():set("infermesh", "anthropic", headers:get("x-request-id") or "")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  if headers:get(":method") == "HEAD" then -- as GET, which the transcoder knows; the answer's body is dropped
    handle:streamInfo():dynamicMetadata():set("infermesh", "bodiless", true)
    headers:replace(":method", "GET")
    if path:match("^[^?]*") == ENDLESS then
      handle:respond({ [":status"] = "405", allow = "GET" }, "")
      return
    end
  end
  headers:remove(QUERY) -- only this script says it
  if path:find("?", 1, true) then -- the transcoder refuses parameters that it does not know, so the router gets them all
    local query = path:match("%?(.*)"):sub(1, MAX_QUERY_CHARS):gsub("[^!-~]", "?") -- gRPC takes printable ASCII only
    headers:add(QUERY, query)
    path = path:gsub("%?.*", "")
    headers:replace(":path", path)
  end
  local known = headers:get("if-none-match")
  if known then handle:streamInfo():dynamicMetadata():set("infermesh", "known", known) end
  if path:find("^/api/") or path:find("^/v2$") or path:find("^/v2/") and path ~= "/v2/rerank" then -- that is Cohere's
    handle:streamInfo():dynamicMetadata():set("infermesh", "ollama", true)
  end
  if not errors.is_utf8(path) then
    handle:respond({ [":status"] = "400" }, "The path is not UTF-8") -- local_reply_config makes JSON of it
    return
  end
  if handle:metadata():get("is_grpc") and handle:streamInfo():protocol() ~= "HTTP/2" then
    handle:respond({ [":status"] = "426" }, "") -- web pages can speak HTTP/1.1, and nothing here looks at their origin
    return
  end
  if not handle:metadata():get("is_grpc") then
    rewrite_azure(headers, path)
    escape_name(headers, path)
    note_anthropic(handle, headers, path)
  end
  drop_grpc_headers(headers)
  tell_encoding(headers)
  read_body(handle)
end

-- Tells a gRPC client that its message was dropped: the router saw a part of it only.
local function refuse_grpc(headers)
  for _, name in ipairs(GRPC_HEADERS) do headers:remove(name) end
  headers:replace(":status", "200")
  headers:replace("content-type", "application/grpc")
  headers:replace("grpc-status", "8")
  headers:replace("grpc-message", BUSY)
  headers:replace("retry-after", "1")
end

-- Makes the answer to GET one to HEAD: the same headers, and no body.
local function drop_body(handle, http_status)
  local body = handle:body() -- nil if there is none, as in an answer of Envoy itself
  local headers = handle:headers()
  if http_status >= 400 then
    for _, name in ipairs(GRPC_HEADERS) do headers:remove(name) end
  end
  if not body then return end
  local length = body:length()
  body:setBytes("")
  headers = handle:headers()
  headers:replace("content-length", tostring(length))
end

function envoy_on_response(handle)
  local http_status = tonumber(handle:headers():get(":status"))
  local noted = handle:streamInfo():dynamicMetadata():get("infermesh") or {}
  if handle:metadata():get("is_grpc") then
    if noted.busy then refuse_grpc(handle:headers()) end
    return
  end
  if noted.anthropic then handle:headers():replace("request-id", noted.anthropic) end
  if noted.known and http_status == 200 and errors.is_known(noted.known, handle:headers():get("etag")) then
    handle:headers():replace(":status", "304")
    noted.bodiless, http_status = true, 304
  end
  if noted.bodiless then
    drop_body(handle, http_status)
    return
  end
  if http_status < 400 then return end
  local body = handle:body(true) -- waits for the body; objects taken from the handle before this are invalid afterwards
  if noted.too_large then
    answer(handle, 413, body, errors.too_large(noted.too_large), noted)
    return
  end
  local headers = handle:headers()
  if noted.busy then
    headers:replace("retry-after", "1")
    answer(handle, 429, body, refusal(429, "8", BUSY, "bodies_too_large"), noted)
    return
  end
  local text = body:getBytes(0, body:length())
  local status = errors.status(text, headers:get("grpc-status"), headers:get("grpc-message"))
  if status.error then -- an error that Envoy answered by itself
    if noted.ollama then answer(handle, http_status, body, text, noted) end
    return
  end
  local retry_after = errors.retry_after(status) or headers:get("retry-after") or ((http_status == 503 or http_status == 429) and "1")
  if retry_after then headers:replace("retry-after", retry_after) end
  if FINAL[tonumber(status.code)] then headers:replace("x-should-retry", "false") end -- SDKs retry 5xx by themselves
  local better = STATUSES[(detail(status, "ErrorInfo").reason or ""):lower()]
  answer(handle, better or http_status, body, errors.object(http_status, status), noted)
end
