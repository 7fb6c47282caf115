-- Deletes a record, and tells all gateways if there was one.
-- KEYS: the record's, or the hash that it is in. ARGV: field (empty: the key itself), channel, message.
local deleted
if ARGV[1] == '' then deleted = redis.call('DEL', KEYS[1]) else deleted = redis.call('HDEL', KEYS[1], ARGV[1]) end
if deleted > 0 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return deleted
