-- Enters a session into the list of those that the plugin of an API made, in the order in which they end. Answers who must
-- leave, so that the list has no more than it may. `keep.lua` and a cluster's question of its own go on from here.
-- The set of all lists, for `leave.lua`; the list; now in ms (0: the server's), the session, its life in ms (0: for ever, -1: as before), most sessions, most that
-- leave at once.
local function enter(lists, list, now, session, life, most, most_at_once)
  now, life = tonumber(now), tonumber(life)
  if now == 0 then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  redis.call('ZREMRANGEBYSCORE', list, '-inf', string.format('%.0f', now))
  local before = redis.call('ZSCORE', list, session)
  local leaving = {}
  if not before then
    local over = redis.call('ZCARD', list) - tonumber(most) + 1
    if over > 0 then
      local popped = redis.call('ZPOPMIN', list, math.min(over, tonumber(most_at_once)))
      for i = 1, #popped, 2 do leaving[#leaving + 1] = popped[i] end
    end
  end
  if life < 0 and before then return leaving end
  redis.call('SADD', lists, list)
  -- Those that never end come after all others, in the order in which they were written.
  local rank = life > 0 and now + life or 4000000000000000 + now
  local left = redis.call('PTTL', list)
  redis.call('ZADD', list, string.format('%.0f', rank), session)
  -- The list goes with the last that is in it.
  if life <= 0 then
    redis.call('PERSIST', list)
  elseif left == -2 or (left >= 0 and left < life) then
    redis.call('PEXPIRE', list, string.format('%.0f', life))
  end
  return leaving
end
