-- Values of one plugin in one API: a hash of them, and a sorted set of their ends. `kv/values.rs` does the same in Rust.
-- The field with an empty name, which no value has, holds the bytes of all and how many of them end: where that is not the
-- number of ends, the server has evicted one of the two, and values that should end would not. Then all of them go.
-- KEYS: the hash, the sorted set.
-- ARGV: `get`, `set`, `delete`, `add` or `swap`, key, now in ms (0: the server's), spare life in ms, most keys, most bytes,
--   most bytes of a value, life in ms (empty: for ever), value or number to add, `1` where a value is expected, that value.
-- Answers 1 or 0, or -1 (keys), -2 (bytes), -3 (not a number), -4 (value too large), then the value or the sum.
local values, ends, op, key = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local now = tonumber(ARGV[3])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local OVERHEAD = 128

local kept = numbers(redis.call('HGET', values, ''), 2)
if not kept or kept[2] ~= redis.call('ZCARD', ends) then
  redis.call('DEL', values, ends)
  kept = {0, 0}
end
local bytes = kept[1]
local old, ended = redis.call('HGET', values, key), redis.call('ZSCORE', ends, key)
local live = old
if ended and tonumber(ended) <= now then live = false end

if op == 'get' then
  if live then return {1, live} end
  return {0}
end
if op == 'swap' then
  local expected = false
  if ARGV[10] == '1' then expected = ARGV[11] end
  if live ~= expected then return {0} end
end

local function drop(field)
  local value_bytes = redis.call('HSTRLEN', values, field)
  if redis.call('HDEL', values, field) == 1 then bytes = bytes - #field - value_bytes - OVERHEAD end
  redis.call('ZREM', ends, field)
end

-- Removes some of what has ended, and tells how much.
local function sweep(most)
  local over = redis.call('ZRANGEBYSCORE', ends, '-inf', text(now), 'LIMIT', 0, most)
  for _, field in ipairs(over) do drop(field) end
  return #over
end

-- Where all values end, they go with the last one even if nobody asks again.
local function close()
  local ending = redis.call('ZCARD', ends)
  redis.call('HSET', values, '', text(bytes, ending))
  local count = redis.call('HLEN', values) - 1
  if count == 0 then
    redis.call('DEL', values, ends)
  elseif ending < count then
    redis.call('PERSIST', values)
    redis.call('PERSIST', ends)
  else
    local last = redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')
    local rest = text(math.max(1, tonumber(last[2]) - now + tonumber(ARGV[4])))
    redis.call('PEXPIRE', values, rest)
    redis.call('PEXPIRE', ends, rest)
  end
end

if op == 'delete' then
  if old then
    drop(key)
    close()
  end
  return {live and 1 or 0}
end

-- First, so that a server without memory refuses before anything is changed.
redis.call('HSET', values, '', text(bytes, kept[2]))
if old and not live then drop(key) end
sweep(2)

local new = ARGV[9]
if op == 'add' then
  -- The server's sums are exact, those of this language are not.
  local sum = redis.pcall('HINCRBY', values, key, ARGV[9])
  if type(sum) == 'table' then
    close()
    return {-3}
  end
  new = redis.call('HGET', values, key)
  if live then redis.call('HSET', values, key, live) else redis.call('HDEL', values, key) end
end

local grown = #new
if live then grown = grown - #live else grown = grown + #key + OVERHEAD end
local function refusal()
  if #new > tonumber(ARGV[7]) then return -4 end
  if not live and redis.call('HLEN', values) - 1 >= tonumber(ARGV[5]) then return -1 end
  if grown > 0 and bytes + grown > tonumber(ARGV[6]) then return -2 end
  return nil
end
local refused = refusal()
while refused and refused ~= -4 and sweep(100) > 0 do refused = refusal() end
if refused then
  close()
  return {refused}
end

redis.call('HSET', values, key, new)
bytes = bytes + grown
if op ~= 'add' or not live then
  if ARGV[8] == '' then
    redis.call('ZREM', ends, key)
  else
    redis.call('ZADD', ends, text(now + tonumber(ARGV[8])), key)
  end
end
close()
if op == 'add' then return {1, new} end
return {1}
