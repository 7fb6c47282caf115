-- Takes back what `take.lua` counted at a time, because a limit in another slot of the cluster refused.
-- KEYS: one for each rate. ARGV: that time, unused, number of rates, then as for `take.lua`.
local counted = tonumber(ARGV[1])
for i = 1, tonumber(ARGV[3]) do
  local key, at = KEYS[i], 4 + (i - 1) * 6
  local kind, max, per = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if kind == 'f' then
    local found = numbers(redis.call('GET', key), 3)
    if found and found[2] == math.floor(counted / per) * per and found[3] > 0 then
      redis.call('SET', key, text(found[1], found[2], found[3] - 1), 'KEEPTTL')
    end
  elseif kind == 's' then
    local slot = counted
    if max > 1000 then
      local width = math.max(1, math.floor(per / 1000))
      slot = math.ceil(counted / width) * width
    end
    local index, best = 1, nil
    while true do
      local passed = numbers(redis.call('LINDEX', key, index), 2)
      if not passed or passed[1] < slot then break end
      best, index = passed, index + 1
    end
    local total = numbers(redis.call('LINDEX', key, 0), 1)
    if best and total then
      local entry = text(best[1], best[2])
      if best[2] > 1 then
        redis.call('LSET', key, index - 1, text(best[1], best[2] - 1))
      else
        redis.call('LREM', key, -1, entry)
      end
      redis.call('LSET', key, 0, text(total[1] - 1))
    end
  else
    local found = numbers(redis.call('GET', key), 4)
    if found then
      redis.call('SET', key, text(found[1], found[2], found[3], math.max(0, found[4] - found[2])), 'KEEPTTL')
    end
  end
end
return 1
