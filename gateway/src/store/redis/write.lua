-- Writes a record if a condition holds, and tells all gateways.
-- KEYS: the record's, or the hash that it is in.
-- ARGV: field (empty: the key itself), value, `always`, `absent` or `is`, what it must be, life in ms (0: for ever, -1: as
--   before), most fields of the hash, channel, message.
local key, field = KEYS[1], ARGV[1]
local old
if field == '' then old = redis.call('GET', key) else old = redis.call('HGET', key, field) end
if ARGV[3] == 'absent' and old then return 0 end
if ARGV[3] == 'is' and old ~= ARGV[4] then return 0 end
local life = tonumber(ARGV[5])
if field ~= '' then
  if not old and redis.call('HLEN', key) >= tonumber(ARGV[6]) then return -1 end
  redis.call('HSET', key, field, ARGV[2])
elseif life > 0 then
  redis.call('SET', key, ARGV[2], 'PX', ARGV[5])
elseif life < 0 and old then
  redis.call('SET', key, ARGV[2], 'KEEPTTL')
else
  redis.call('SET', key, ARGV[2])
end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1
