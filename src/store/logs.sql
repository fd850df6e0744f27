-- Build logs: a database file of its own, so that its size and its writes trouble nothing else.
-- Never a row per line: a chunk is about 256 kB of events, compressed.
create table chunks (
  build_id integer not null,
  -- Number of the first event in it, from 0 within the build, and how many there are.
  first_event integer not null,
  events integer not null,
  -- zstd of the events, each the JSON that is sent to followers, separated by a newline.
  data blob not null,
  -- JSON: what of each step is in here, so that a restarted server repeats and loses nothing: {"ends": {plan id: offset
  -- behind the last byte of its output}, "once": ["plan id event name", ...]}.
  marks text not null default '{}',
  unique (build_id, first_event)
) strict;
