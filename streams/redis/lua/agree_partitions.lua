#!lua
-- Says how many partitions an app has, and notes it down when it is new.
-- KEYS  1 partitions  2 the books of partition 0     ARGV  1 number  2 1 to make it so whatever it was
-- Returns the number that holds.
-- Invariant: all processes agree on one number, or events would be where nobody looks for them. An app that has books
-- and has noted nothing has one partition: with one, nothing is ever written here.

local number, noted = ARGV[1], redis.pcall('GET', KEYS[1])
local held = noted
if not held and redis.call('EXISTS', KEYS[2]) == 1 then noted = '1' end
-- What is no number was written by somebody else: it holds for nobody.
if type(noted) ~= 'string' or not string.find(noted, '^[1-9]%d?%d?%d?$') then noted = nil end
if noted and ARGV[2] ~= '1' then return tonumber(noted) end
if number ~= '1' then
  redis.call('SET', KEYS[1], number)
elseif held then
  redis.call('DEL', KEYS[1])
end
return tonumber(number)
