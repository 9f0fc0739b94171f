-- Included by the scripts that keep the books: not a script of its own. The books are their last key, a hash.
-- book(what, n) notes n more of something; write_books() enters it all, with one HINCRBY for each kind in a batch; a key
-- that is no hash costs the books, not the events.
-- Invariant: what moves and what is noted is one step, so that a difference between the books and the streams means
-- that somebody else removed something. The fields are listed in streams/inspecting/reconciliation.py.
local noted = {}

local function book(what, n)
  noted[what] = (noted[what] or 0) + n
end

local function short(key)
  local at = string.find(key, '}:', 1, true)
  return at and string.sub(key, at + 2) or key
end

-- What append.lua added, and the streams that this made: what was removed from them before is gone with them.
local function book_added(added, created)
  for key, n in pairs(added) do book('published ' .. short(key), n) end
  for key in pairs(created) do redis.pcall('HDEL', KEYS[#KEYS], 'removed ' .. short(key)) end
end

local function write_books()
  for what, n in pairs(noted) do
    if n ~= 0 then redis.pcall('HINCRBY', KEYS[#KEYS], what, n) end
  end
end
