#!lua
-- Agrees on the number of partitions of an app, and stores it when it is new.
-- KEYS  1 partitions  2 the ledger of partition 0     ARGV  1 number  2 1 to make it so whatever it was
-- Returns the number that holds.
-- Invariant: all processes agree on one number, or events would be in partitions that no process reads. An app that has
-- a ledger and has stored nothing has one partition: with one, nothing is ever written here.

local number, noted = ARGV[1], redis.pcall('GET', KEYS[1])
local held = noted
if not held and redis.call('EXISTS', KEYS[2]) == 1 then noted = '1' end
-- A value that is no number was not written by the engine, and is ignored.
if type(noted) ~= 'string' or not string.find(noted, '^[1-9]%d?%d?%d?$') then noted = nil end
if noted and ARGV[2] ~= '1' then return tonumber(noted) end
if number ~= '1' then
  redis.call('SET', KEYS[1], number)
elseif held then
  redis.call('DEL', KEYS[1])
end
return tonumber(number)
