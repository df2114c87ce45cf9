//! What is done in one step on the server, in Lua.
//!
//! Redis forgets without a trace: a trimmed stream does not tell which entry it lost last. So trimming is ours, and leaves a
//! note beside the stream: `forgotten` is the id of the last entry that was dropped, `removed` how many had been by
//! then. The note holds as long as the stream's own count of removed entries agrees with it; if anybody else has trimmed
//! or deleted, the first entry there is tells the bound, which errs on the side of a gap.
//!
//! Sent whole with `EVAL` each time, not by hash: a few hundred bytes more for each batch, and nothing to load again after a
//! failover.

use super::entry::{self, Entry, text};
use super::id::{self, EntryId};
use super::options::Keys;
use crate::log::NewRecord;
use anabranch_protocol::cursor::{Offset, Partition};
use redis::{Cmd, Value};
use std::time::Duration;

/// Everything that is to be known about a stream at one moment.
const LOOK: &str = "\
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local info = {}
local list = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #list, 2 do info[list[i]] = list[i + 1] end
local first = info['first-entry']
local note = {redis.call('HGET', KEYS[2], 'forgotten'), redis.call('HGET', KEYS[2], 'removed')}
local found = false
if ARGV[2] ~= '' then found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1] or false end
local newest = false
if ARGV[1] == '1' and info['last-entry'] then
  newest = info['last-entry']
  local ms, sequence = string.match(newest[1], '^(%d+)-(%d+)$')
  local over = tonumber(ms) - tonumber(ARGV[3])
  if over > 0 or over == 0 and tonumber(sequence) > tonumber(ARGV[4]) then
    newest = redis.call('XREVRANGE', KEYS[1], ARGV[3] .. '-' .. ARGV[4], '-', 'COUNT', 1)[1] or false
  end
end
return {info['length'], info['entries-added'] or -1, info['last-generated-id'], first and first[1] or '',
  note[1] or '', note[2] or '', newest, found}";

/// Makes a stream if there is none, and says whether it was there and was ours. If it was not, what was known as the log's
/// name is void, which is noted: whoever comes before the log has another name makes nothing and learns it all the same.
const MAKE: &str = "\
local there = redis.call('EXISTS', KEYS[1])
local ours = redis.call('HGET', KEYS[2], 'made')
if there == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'anabranch', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'anabranch')
  redis.call('HDEL', KEYS[2], 'forgotten', 'removed')
else
  redis.call('XLEN', KEYS[1])
end
if there == 1 and ours then
  return redis.call('HGET', KEYS[2], 'void') == ARGV[1] and 0 or 1
end
redis.call('HSET', KEYS[2], 'made', '1', 'void', ARGV[1])
return 0";

/// Notes how many partitions the log has, if nobody has; answers with what is noted. A log that was named before this was
/// noted has one, if its name stands here.
const CLAIM: &str = "\
local known = redis.call('HGET', KEYS[1], 'partitions') or redis.call('HGET', KEYS[1], 'id') and '1'
if not known then
  known = ARGV[1]
  redis.call('HSET', KEYS[1], 'partitions', known)
end
return known";

/// Names the log if it has no name, or the one that is void; answers with its name, and with the number of partitions
/// that whoever named it first had. With another number nothing is named.
const NAME: &str = "\
local partitions = redis.call('HGET', KEYS[1], 'partitions') or ARGV[3]
redis.call('HSET', KEYS[1], 'partitions', partitions)
if partitions ~= ARGV[3] then return {'', partitions} end
local id = redis.call('HGET', KEYS[1], 'id')
if not id or id == ARGV[1] then
  id = ARGV[2]
  redis.call('HSET', KEYS[1], 'id', id)
end
return {id, partitions}";

/// Drops what is too much or too old, at most `ARGV[3]` entries; answers with how many.
const TEND: &str = "\
local length = redis.call('XLEN', KEYS[1])
local most, age, page = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local excess = most >= 0 and length - most or 0
local cut = -1
if age >= 0 then
  local now = redis.call('TIME')
  cut = now[1] * 1000 + math.floor(now[2] / 1000) - age
end
local function ms(entry) return tonumber(string.match(entry[1], '^%d+')) end
if length == 0 then return 0 end
if excess <= 0 then
  if cut < 0 or ms(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]) >= cut then return 0 end
end
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', page + 1)
local dropped = 0
while dropped < page and entries[dropped + 1] and (dropped < excess or ms(entries[dropped + 1]) < cut) do
  dropped = dropped + 1
end
if dropped == 0 then return 0 end
if entries[dropped + 1] then
  redis.call('XTRIM', KEYS[1], 'MINID', entries[dropped + 1][1])
else
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
end
local info = {}
local list = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #list, 2 do info[list[i]] = list[i + 1] end
redis.call('HSET', KEYS[2], 'forgotten', entries[dropped][1], 'removed', info['entries-added'] - info['length'])
return dropped";

/// Appends an entry, with an id in the next millisecond where the server's own would be one that no offset tells.
const STEP: &str = "\
local id = '*'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = {}
  local list = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #list, 2 do info[list[i]] = list[i + 1] end
  local ms, sequence = string.match(info['last-generated-id'], '^(%d+)-(%d+)$')
  local now = redis.call('TIME')
  -- The clock by which ids are given may stand a little behind this one.
  local stays = tonumber(ms) + 1000 >= now[1] * 1000 + math.floor(now[2] / 1000)
  if stays and tonumber(sequence) >= tonumber(ARGV[2]) and tonumber(ms) < tonumber(ARGV[1]) then
    id = string.format('%.0f-*', tonumber(ms) + 1)
  end
end
return redis.call('XADD', KEYS[1], id, unpack(ARGV, 3))";

/// Gives a duty to whoever asks, unless somebody else has it and the time for which it was given is not over. In the hash, and by
/// the server's clock: a key that expires would need commands that nothing else needs.
const HOLD: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = redis.call('HGET', KEYS[1], 'duty:' .. ARGV[1])
if holder then
  local token, over = string.match(holder, '^(%S+) (%d+)$')
  if token and token ~= ARGV[2] and tonumber(over) > now then return 0 end
end
redis.call('HSET', KEYS[1], 'duty:' .. ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now + ARGV[3]))
return 1";

/// How many entries one run of [`tend`] drops at most. Redis does nothing else meanwhile.
pub(super) const PAGE: u64 = 100;

fn eval(script: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len()).arg(keys);
    command
}

/// Asks for a [`Look`]. `find` is an entry to look for.
pub(super) fn look(keys: &Keys, newest: bool, find: Option<EntryId>) -> Cmd {
    let mut command = eval(LOOK, &[&keys.stream, &keys.beside]);
    command.arg(u8::from(newest)).arg(find.map(|id| id.to_string()).unwrap_or_default());
    command.arg(id::MAX_MS).arg(id::MAX_SEQUENCE);
    command
}

/// Asks that the stream be there; the answer is 1 if it was, and a gateway had seen it, under the log's name as it is `known`.
pub(super) fn make(keys: &Keys, known: &str) -> Cmd {
    let mut command = eval(MAKE, &[&keys.stream, &keys.beside]);
    command.arg(known);
    command
}

/// Asks how many partitions the log has, or says so.
pub(super) fn claim(keys: &Keys, partitions: Partition) -> Cmd {
    let mut command = eval(CLAIM, &[&keys.beside]);
    command.arg(partitions);
    command
}

/// Asks that a record be appended where an offset tells it, whatever the id before it is.
pub(super) fn step(keys: &Keys, record: &NewRecord) -> Cmd {
    let mut command = eval(STEP, &[&keys.stream]);
    command.arg(id::MAX_MS).arg(id::MAX_SEQUENCE).arg(&entry::fields(record));
    command
}

/// Asks for the log's name.
pub(super) fn name(keys: &Keys, void: &str, fresh: &str, partitions: Partition) -> Cmd {
    let mut command = eval(NAME, &[&keys.beside]);
    command.arg(void).arg(fresh).arg(partitions);
    command
}

/// Asks for a duty; the answer is 1 if it is given.
pub(super) fn hold(keys: &Keys, name: &str, token: &str, life: Duration) -> Cmd {
    let mut command = eval(HOLD, &[&keys.beside]);
    command.arg(name).arg(token).arg(life.as_millis() as u64);
    command
}

/// Asks to drop what is too much or too old.
pub(super) fn tend(keys: &Keys, most: Option<u64>, age_ms: Option<u64>) -> Cmd {
    let number = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
    let mut command = eval(TEND, &[&keys.stream, &keys.beside]);
    command.arg(number(most)).arg(number(age_ms)).arg(PAGE);
    command
}

/// A stream at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    length: u64,
    added: u64,
    last: Option<EntryId>,
    first: Option<EntryId>,
    /// The note: the last entry that was forgotten, and how many were removed by then.
    note: Option<(EntryId, u64)>,
    /// The newest entry that is not beyond all offsets, if it was asked for.
    pub newest: Option<Entry>,
    /// The entry that was looked for.
    pub found: Option<Entry>,
}

impl Look {
    /// Reads the script's answer.
    pub(super) fn read(answer: Value) -> Option<Look> {
        let Value::Array(answer) = answer else { return None };
        if answer.is_empty() {
            return Some(Look::default());
        }
        let mut fields = answer.into_iter();
        let mut next = || fields.next().unwrap_or(Value::Nil);
        let length = number(&next())?;
        let added = number(&next())?;
        let last = text(next())?.parse().ok();
        let first = text(next())?.parse().ok();
        let forgotten: Option<EntryId> = text(next())?.parse().ok();
        let removed: Option<u64> = text(next())?.parse().ok();
        let newest = Entry::read(next());
        let found = Entry::read(next());
        Some(Look { length, added, last, first, note: forgotten.zip(removed), newest, found })
    }

    /// See [`Source::earliest`](crate::log::source::Source::earliest). `None` if an id is beyond all offsets.
    pub(super) fn earliest(&self) -> Option<Offset> {
        let removed = self.added.saturating_sub(self.length);
        if removed == 0 {
            return Some(Offset(1));
        }
        let after = |id: EntryId| id.reaches().map(|offset| Offset(offset.0.saturating_add(1)));
        match (self.note, self.first, self.last) {
            (Some((forgotten, count)), first, _)
                if count == removed && first.is_none_or(|f| f > forgotten) =>
            {
                after(forgotten)
            }
            // Of one that no offset tells nothing can be missed: the bound lies behind it.
            (_, Some(first), _) => first.offset().or_else(|| after(first)),
            (_, None, Some(last)) => after(last),
            (_, None, None) => Some(Offset(1)),
        }
    }

    /// How many entries there are.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The newest offset that was ever given; the last there is if the ids are beyond all offsets.
    pub(super) fn last(&self) -> Offset {
        self.last.map_or(Offset(0), |last| last.reaches().unwrap_or(Offset(u64::MAX)))
    }

    /// The first entry.
    pub(super) fn first(&self) -> Option<EntryId> {
        self.first
    }

    /// The newest id that was given, if it is beyond all offsets: the server gives only higher ones.
    pub(super) fn beyond(&self) -> Option<EntryId> {
        self.last.filter(|last| last.is_beyond())
    }
}

/// `None` if it is negative: `entries-added` is absent before Redis 7.0.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
