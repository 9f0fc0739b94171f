-- Included by the scripts that keep the ledger: not a script of its own. The ledger is their last key, a hash.
-- ledger_add(what, n) adds n to a counter; write_ledger() writes all of them, with one HINCRBY per counter. When the key
-- is no hash, the counters are lost and the events are not.
-- Invariant: a change and its count are one step, so that a difference between the ledger and the streams means that
-- something else removed entries. The fields are listed in streams/inspecting/reconciliation.py.
local noted = {}

local function ledger_add(what, n)
  noted[what] = (noted[what] or 0) + n
end

local function short(key)
  local at = string.find(key, '}:', 1, true)
  return at and string.sub(key, at + 2) or key
end

-- Counts what append.lua added. For the streams it made, `removed` begins again at 0: their old entries are gone.
local function ledger_add_published(added, created)
  for key, n in pairs(added) do ledger_add('published ' .. short(key), n) end
  for key in pairs(created) do redis.pcall('HDEL', KEYS[#KEYS], 'removed ' .. short(key)) end
end

local function write_ledger()
  for what, n in pairs(noted) do
    if n ~= 0 then redis.pcall('HINCRBY', KEYS[#KEYS], what, n) end
  end
end
