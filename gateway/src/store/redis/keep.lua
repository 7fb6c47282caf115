-- Writes a session that a plugin made (`write.lua`), enters it into the list of its API (`enter.lua`), and deletes those who
-- must leave.
-- KEYS: the session's, the list's, the set of all lists. ARGV: eight for `write.lua`, five for `enter.lua`, then what stands before a session's name
--   as a key, and as news of its deletion.
local done = write()
if done ~= 1 then return {done} end
local leaving = enter(KEYS[3], KEYS[2], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13])
local answer = {1}
for i, session in ipairs(leaving) do
  if redis.call('DEL', ARGV[14] .. session) > 0 then answer[#answer + 1] = session end
  redis.call('PUBLISH', ARGV[7], ARGV[15] .. session)
end
return answer
