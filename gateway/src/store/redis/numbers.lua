-- How counters are written as text. Put before `take.lua` and `refund.lua`, which read and write the same ones, and `kv.lua`.
local function text(...)
  local parts = {}
  for i, number in ipairs({...}) do parts[i] = string.format('%.0f', number) end
  return table.concat(parts, ' ')
end
-- The numbers of a stored text; nothing where it is somebody else's.
local function numbers(stored, count)
  local found = {}
  for digits in string.gmatch(stored or '', '%d+') do found[#found + 1] = tonumber(digits) end
  if #found == count then return found end
  return nil
end
