#!lua
-- Pauses, resumes, runs or forgets one schedule.
-- KEYS  1 schedules  2 slots     ARGV  1 name  2 pause, resume, run or forget  3 longest a run may wait in ms
-- Returns {-1} for an unknown schedule, {0} when it was so already, else {1, ms since 1970}; `run` always answers
-- with the time under which it was requested.
-- Invariant: slots that pass while it is paused are not made up for: it goes on from now. Two requests for a run at the
-- same time make one run.
-- include redis/append.lua

local name, action, now = ARGV[1], ARGV[2], now_ms()
must_be('hash', KEYS[1])
must_be('hash', KEYS[2])
if redis.call('HEXISTS', KEYS[1], name) == 0 then return {-1} end
if action == 'pause' then
  return {redis.call('HSETNX', KEYS[2], name .. ':paused', now), now}
elseif action == 'resume' then
  local paused = redis.call('HEXISTS', KEYS[2], name .. ':paused')
  if paused == 1 then
    redis.call('HSET', KEYS[2], name, math.max(now, tonumber(redis.call('HGET', KEYS[2], name) or 0) or 0))
    redis.call('HDEL', KEYS[2], name .. ':paused')
  end
  return {paused, now}
elseif action == 'run' then
  local requested = tonumber(redis.call('HGET', KEYS[2], name .. ':run') or 0) or 0
  if now - requested <= tonumber(ARGV[3]) then return {0, requested} end
  redis.call('HSET', KEYS[2], name .. ':run', now)
  return {1, now}
elseif action == 'forget' then
  redis.call('HDEL', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name, name .. ':timing', name .. ':paused', name .. ':run', name .. ':ran',
    name .. ':fired', name .. ':missed')
  return {1, now}
end
error({err = 'ERR steer_schedule: unknown action ' .. action})
