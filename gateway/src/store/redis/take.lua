-- Counts one request against rates and a quota: all of them, or none. `window.rs` does the same in Rust.
-- KEYS: one for each rate, then the quota's.
-- ARGV: now in microseconds (0: the server's), spare life in ms, number of rates, for each rate: kind, max, period in us,
--   what a us pays back, what a request costs, burst; then, with a quota: max, ms from first request to renewal (0: never).
-- Numbers stay below 2^53, so they are exact.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local spare, rates = tonumber(ARGV[2]), tonumber(ARGV[3])

local function life(us) return text(math.ceil(us / 1000) + spare) end

local states = {}
for i = 1, rates do
  local key, at = KEYS[i], 4 + (i - 1) * 6
  local s = {
    kind = ARGV[at], max = tonumber(ARGV[at + 1]), per = tonumber(ARGV[at + 2]), pay = tonumber(ARGV[at + 3]),
    cost = tonumber(ARGV[at + 4]), burst = tonumber(ARGV[at + 5]),
  }
  if s.kind == 'f' then
    local begins = math.floor(now / s.per) * s.per
    local found = numbers(redis.call('GET', key), 3)
    s.start, s.count = 0, 0
    if found and found[1] == s.per then s.start, s.count = found[2], found[3] end
    if begins > s.start or s.start > begins + s.per then s.start, s.count = begins, 0 end
    if s.count >= s.max then return {2, i - 1, s.start + s.per - now} end
  elseif s.kind == 's' then
    -- A list: how many in all, then time and number of those who passed, newest first.
    local found = numbers(redis.call('LINDEX', key, 0), 1)
    s.total = found and found[1] or 0
    local before = s.total
    while true do
      local newest = numbers(redis.call('LINDEX', key, 1), 2)
      if not newest or newest[1] <= now + s.per then break end
      redis.call('LPOP', key, 2)
      s.total = s.total - newest[2]
      redis.call('LPUSH', key, text(s.total))
    end
    while true do
      local oldest = numbers(redis.call('LINDEX', key, -1), 2)
      if not oldest or oldest[1] + s.per > now then break end
      redis.call('RPOP', key)
      s.total = s.total - oldest[2]
    end
    if s.total ~= before then redis.call('LSET', key, 0, text(s.total)) end
    if s.total >= s.max then
      local too_many, free, index = s.total - s.max + 1, now, -1
      while too_many > 0 do
        local passed = numbers(redis.call('LINDEX', key, index), 2)
        if not passed then break end
        free, too_many, index = passed[1] + s.per, too_many - passed[2], index - 1
      end
      return {2, i - 1, free - now}
    end
  else
    local found = numbers(redis.call('GET', key), 4)
    s.at, s.debt = 0, 0
    if found then
      s.at, s.debt = found[3], found[4]
      if found[1] ~= s.pay or found[2] ~= s.cost then s.debt = math.ceil(s.debt * s.cost / found[2]) end
    end
    if s.at > now + s.per then s.at, s.debt = now, 0 end
    s.debt = math.max(0, s.debt - math.max(0, now - s.at) * s.pay)
    s.at = math.max(now, s.at)
    local room = (s.burst - 1) * s.cost
    if s.debt > room then return {2, i - 1, math.ceil((s.debt - room) / s.pay) + s.at - now} end
  end
  states[i] = s
end

local answer = {1, now}
local quota = KEYS[rates + 1]
local used, renews = -1, -1
if quota then
  local at = 4 + rates * 6
  local max, renewal = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local stored = redis.call('GET', quota)
  renews = redis.call('PTTL', quota)
  local is_new = not stored or (renews < 0 and renewal > 0)
  used = is_new and 0 or tonumber(stored) or 0
  if used >= max then return {3, used, renews} end
  used = used + 1
  if not is_new then
    redis.call('SET', quota, text(used), 'KEEPTTL')
  elseif renewal > 0 then
    redis.call('SET', quota, text(used), 'PX', text(renewal))
    renews = renewal
  else
    redis.call('SET', quota, text(used))
    renews = -1
  end
end

for i = 1, rates do
  local key, s, remaining, reset = KEYS[i], states[i], 0, 0
  if s.kind == 'f' then
    s.count = s.count + 1
    remaining, reset = s.max - s.count, s.start + s.per - now
    redis.call('SET', key, text(s.per, s.start, s.count), 'PX', life(reset))
  elseif s.kind == 's' then
    local slot = now
    if s.max > 1000 then
      local width = math.max(1, math.floor(s.per / 1000))
      slot = math.ceil(now / width) * width
    end
    s.total = s.total + 1
    local newest = numbers(redis.call('LINDEX', key, 1), 2)
    if newest and newest[1] >= slot then
      slot = newest[1]
      redis.call('LSET', key, 1, text(slot, newest[2] + 1))
      redis.call('LSET', key, 0, text(s.total))
    else
      redis.call('LPOP', key)
      redis.call('LPUSH', key, text(slot, 1), text(s.total))
    end
    remaining, reset = s.max - s.total, slot + s.per - now
    redis.call('PEXPIRE', key, life(reset))
  else
    s.debt = s.debt + s.cost
    remaining = math.max(0, math.floor((s.burst * s.cost - s.debt) / s.cost))
    reset = math.ceil(s.debt / s.pay) + s.at - now
    redis.call('SET', key, text(s.pay, s.cost, s.at, s.debt), 'PX', life(reset))
  end
  answer[#answer + 1] = remaining
  answer[#answer + 1] = math.max(0, reset)
end
answer[#answer + 1] = used
answer[#answer + 1] = renews
return answer
