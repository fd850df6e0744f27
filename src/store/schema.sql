-- The data reference. Times are milliseconds since 1970 UTC, booleans 0 or 1, JSON is text.
-- Every row belongs to a team, by itself or through its pipeline; a query for a tenant starts from the team.
-- Ids are never given twice (autoincrement): containers, volumes, logs and addresses are named for them and may outlive
-- their row, and must not be found by whoever comes next.

-- A team is the wall between tenants.
create table teams (
  id integer primary key autoincrement,
  name text not null,
  -- The name in lower case: names that differ in case only are one name.
  key text not null unique,
  -- Owners of an admin team administer the installation. `main` is the one made at first start.
  admin integer not null default 0 check (admin in (0, 1)),
  -- {"owner": {"users": ["local:alice"], "groups": []}, ...}: who has which role, in Concourse's own form.
  auth text not null default '{}',
  -- JSON list of networks its members must call from; empty for any.
  networks text not null default '[]'
) strict;

-- Bearer tokens are kept by digest only; a stolen database signs nobody in.
create table tokens (
  id integer primary key autoincrement,
  digest text not null unique,
  -- A browser's session, a sign-in of the client, or a service account.
  kind text not null check (kind in ('browser', 'client', 'service')),
  -- Whose it is: the subject of the claims.
  sub text not null,
  -- sub, name, preferred_username, email, groups, known_as, federated_claims {connector_id, user_id}: as learnt at
  -- sign-in, so created_at tells how old the groups are.
  claims text not null,
  created_at integer not null,
  expires_at integer not null,
  last_used_at integer,
  -- From where it was made.
  address text not null default '',
  -- Of service accounts and of a team's own user: the only team where they have a role, and which. Of service accounts:
  -- their name there and who made them.
  team_id integer references teams on delete cascade,
  name text,
  role text check (role in ('viewer', 'pipeline-operator', 'member', 'owner')),
  created_by text,
  check (kind <> 'service' or team_id is not null),
  check ((team_id is null) = (role is null))
) strict;
create index tokens_of_person on tokens (sub);
create unique index service_accounts on tokens (team_id, name) where kind = 'service';

-- Users with a password. Names that differ in case only are one name.
create table local_users (
  key text primary key,
  name text not null,
  -- bcrypt or argon2 in its usual text form; null for users who are named by --add-local-user.
  hash text,
  created_at integer not null,
  changed_at integer not null
) strict, without rowid;

-- Who has signed in, with what was learnt of them then.
create table users (
  id integer primary key autoincrement,
  sub text not null unique,
  username text not null,
  connector text not null,
  claims text not null default '{}',
  last_login integer not null
) strict;

create table pipelines (
  id integer primary key autoincrement,
  team_id integer not null references teams on delete cascade,
  name text not null,
  -- Canonical JSON of the instance variables, or '' for a pipeline without any: part of the identity.
  instance_vars text not null default '',
  -- The configuration as set, canonical member order, secrets not filled in; null once archived.
  config text,
  -- Sent as X-Concourse-Config-Version; 0 when archived. Grows over all pipelines (one sequence).
  config_version integer not null,
  paused integer not null default 1 check (paused in (0, 1)),
  paused_by text,
  paused_at integer,
  public integer not null default 0 check (public in (0, 1)),
  archived integer not null default 0 check (archived in (0, 1)),
  -- Position on the dashboard within the team: of the name, and of the instance within its name.
  ordering integer not null,
  secondary_ordering integer not null default 1,
  last_updated integer not null,
  -- The build and job whose set_pipeline step made it.
  parent_build_id integer,
  parent_job_id integer,
  unique (team_id, name, instance_vars)
) strict;

-- Jobs that left the configuration stay as inactive rows, so that their builds stay and numbering goes on when they return.
create table jobs (
  id integer primary key autoincrement,
  pipeline_id integer not null references pipelines on delete cascade,
  name text not null,
  active integer not null default 1 check (active in (0, 1)),
  -- Position in the configuration.
  ordering integer not null default 0,
  -- This job's part of the pipeline's configuration.
  config text not null,
  paused integer not null default 0 check (paused in (0, 1)),
  paused_by text,
  paused_at integer,
  -- The number the next build gets is this plus one.
  build_count integer not null default 0,
  -- Counts the requests to look at the job; the schedule pass sets last_scheduled to the count it has read.
  schedule_requested integer not null default 0,
  last_scheduled integer not null default 0,
  -- Whether the last pass found a version for every input (next_inputs has no reason).
  inputs_determined integer not null default 0 check (inputs_determined in (0, 1)),
  has_new_inputs integer not null default 0 check (has_new_inputs in (0, 1)),
  -- Newest completed (not pending, started; reruns of old builds do not count as newer), first pending or started, and
  -- the first build since the status last changed.
  latest_completed_build_id integer,
  next_build_id integer,
  transition_build_id integer,
  first_logged_build_id integer not null default 0,
  unique (pipeline_id, name)
) strict;
create index jobs_wanting_schedule on jobs (id) where schedule_requested > last_scheduled;

-- What a job's plan reads, one row per input and passed job (or one with null): from a resource to the jobs it starts.
create table job_inputs (
  job_id integer not null references jobs on delete cascade,
  -- The name of the get step.
  name text not null,
  resource_id integer not null references resources on delete cascade,
  passed_job_id integer references jobs on delete cascade,
  trigger integer not null check (trigger in (0, 1)),
  -- 'latest', 'every', or canonical JSON of a pinned version.
  version text not null default 'latest'
) strict;
create index job_inputs_by_job on job_inputs (job_id);
create index job_inputs_by_resource on job_inputs (resource_id);
create index job_inputs_by_passed on job_inputs (passed_job_id) where passed_job_id is not null;

create table job_outputs (
  job_id integer not null references jobs on delete cascade,
  name text not null,
  resource_id integer not null references resources on delete cascade
) strict;
create index job_outputs_by_job on job_outputs (job_id);
create index job_outputs_by_resource on job_outputs (resource_id);

create table serial_groups (
  job_id integer not null references jobs on delete cascade,
  name text not null,
  pipeline_id integer not null references pipelines on delete cascade,
  primary key (job_id, name)
) strict, without rowid;
create index serial_groups_members on serial_groups (pipeline_id, name);

-- Inactive rows as with jobs.
create table resources (
  id integer primary key autoincrement,
  pipeline_id integer not null references pipelines on delete cascade,
  name text not null,
  active integer not null default 1 check (active in (0, 1)),
  ordering integer not null default 0,
  type text not null,
  config text not null,
  -- The version history in force; null until the first check after the configuration changed.
  scope_id integer references scopes on delete set null,
  -- Canonical JSON of the version pinned in the configuration (wins) and through the API.
  config_pin text,
  api_pin text,
  pin_comment text not null default '',
  -- The last check that was a build of its own (asked for by a person or webhook).
  last_check_build_id integer,
  -- The id that the last check without a row took among those of builds; the API tells it.
  last_check_id integer,
  -- A check has been asked for, at this time or just after; answered up to there.
  check_requested integer not null default 0,
  last_check_answered integer not null default 0,
  -- When the last check ended and what it said if it failed before it could name a scope.
  last_attempt integer not null default 0,
  last_attempt_error text not null default '',
  -- When that check began: a build that a person asked for waits for one that began after they asked.
  last_attempt_started integer not null default 0,
  -- Whether the check that was asked for is to ask the types it builds on too.
  check_deeply integer not null default 0 check (check_deeply in (0, 1)),
  -- Counts when a version that builds held before becomes usable: then what the resolver remembers means nothing.
  reopened integer not null default 0,
  unique (pipeline_id, name)
) strict;
create index resources_by_scope on resources (scope_id) where scope_id is not null;
create index resources_by_check on resources (last_check_id) where last_check_id is not null;

-- One version history: (type chain and source), of one resource, or of an image or resource type of one team.
create table scopes (
  id integer primary key autoincrement,
  -- Digest over team, resource or none, chain of types and resolved source.
  key text not null unique,
  team_id integer not null references teams on delete cascade,
  last_check_started integer not null default 0,
  last_check_ended integer not null default 0,
  last_check_succeeded integer not null default 0 check (last_check_succeeded in (0, 1)),
  -- What the last failed check said; '' after a success.
  last_check_error text not null default ''
) strict;

create table versions (
  id integer primary key autoincrement,
  scope_id integer not null references scopes on delete cascade,
  -- SHA-256 of the canonical JSON.
  digest text not null,
  version text not null,
  metadata text not null default '[]',
  -- Position in the history, newest highest; 0 for a version that a put or get made known before any check.
  check_order integer not null default 0,
  unique (scope_id, digest)
) strict;
create index versions_newest on versions (scope_id, check_order desc, id desc);

-- The pairs of each version, so that a pin that says only some of them is found, or missed, without reading them all.
create table version_pairs (
  scope_id integer not null references scopes on delete cascade,
  key text not null,
  value text not null,
  version_id integer not null,
  primary key (scope_id, key, value, version_id)
) strict, without rowid;

create table disabled_versions (
  resource_id integer not null references resources on delete cascade,
  digest text not null,
  primary key (resource_id, digest)
) strict, without rowid;

create table builds (
  -- No id is used twice; checks without a row take one too.
  id integer primary key autoincrement,
  -- Number within the job ('7', rerun '7.1'), or of the one-off sequence, or 'check'.
  name text not null,
  status text not null default 'pending'
    check (status in ('pending', 'started', 'succeeded', 'failed', 'errored', 'aborted')),
  team_id integer not null references teams on delete cascade,
  pipeline_id integer references pipelines on delete cascade,
  job_id integer references jobs on delete cascade,
  -- Set for checks.
  resource_id integer references resources on delete cascade,
  created_at integer not null,
  started_at integer,
  ended_at integer,
  -- Taken a slot of its serial groups; from then on it counts as running until it ends.
  scheduled integer not null default 0 check (scheduled in (0, 1)),
  manual integer not null default 0 check (manual in (0, 1)),
  created_by text,
  rerun_of integer references builds,
  rerun_number integer,
  -- An abort was asked for: 1 by stopping the steps, 2 at once.
  aborted integer not null default 0,
  -- The plan that is run, whole and with ((vars)) not filled in, and what the API shows of it. Null while pending (a
  -- check has its plan from the start);
  -- the private plan is dropped when the build has ended.
  plan text,
  public_plan text,
  comment text not null default '',
  -- The log has been removed.
  reap_time integer,
  -- Which success of its job this is, in the order they came: what has succeeded since one looked.
  success integer
) strict;
create index builds_of_job on builds (job_id, id desc) where job_id is not null;
-- Lists show reruns beside what they repeat.
create index builds_listed on builds (coalesce(rerun_of, id) desc, id desc);
create index builds_listed_of_job on builds (job_id, coalesce(rerun_of, id) desc, id desc) where job_id is not null;
create index builds_of_pipeline on builds (pipeline_id, coalesce(rerun_of, id) desc, id desc) where pipeline_id is not null;
create index builds_of_team on builds (team_id, coalesce(rerun_of, id) desc, id desc);
-- Queries name this index: left to itself, SQLite reads all builds that a job ever had to find those that wait.
create index builds_going_on on builds (job_id, id) where status in ('pending', 'started');
create index builds_of_resource on builds (resource_id, coalesce(rerun_of, id) desc, id desc) where resource_id is not null;
create index builds_of_checks on builds (ended_at) where name = 'check';
create index builds_reruns on builds (rerun_of) where rerun_of is not null;
create index builds_succeeded on builds (job_id, coalesce(rerun_of, id) desc, id desc) where status = 'succeeded';
create unique index builds_successes on builds (job_id, success) where success is not null;
create unique index builds_names on builds (job_id, name) where job_id is not null;

-- What a build was given and what it made; versions by digest, which outlives a cleared history.
create table build_inputs (
  build_id integer not null references builds on delete cascade,
  name text not null,
  resource_id integer not null references resources on delete cascade,
  digest text not null,
  version text not null,
  first_occurrence integer not null default 0 check (first_occurrence in (0, 1)),
  -- The build's job, so that "did this job ever use it" does not grow with what other jobs did.
  job_id integer not null references jobs on delete cascade,
  primary key (build_id, name)
) strict, without rowid;
create index build_inputs_by_version on build_inputs (resource_id, digest, build_id);
create index build_inputs_used on build_inputs (job_id, resource_id, digest, name, build_id);

create table build_outputs (
  build_id integer not null references builds on delete cascade,
  name text not null,
  resource_id integer not null references resources on delete cascade,
  digest text not null,
  version text not null,
  primary key (build_id, name, digest)
) strict, without rowid;
create index build_outputs_by_version on build_outputs (resource_id, digest, build_id);

-- What succeeded builds hold, outputs and inputs: which builds of a job can vouch for a version, newest first.
create table vouchers (
  job_id integer not null references jobs on delete cascade,
  resource_id integer not null references resources on delete cascade,
  digest text not null,
  -- The build, or the build it is a rerun of: a rerun of an old build does not become the newest.
  origin integer not null,
  build_id integer not null references builds on delete cascade,
  primary key (job_id, resource_id, digest, origin, build_id)
) strict, without rowid;
create index vouchers_of_build on vouchers (build_id);

-- Which upstream builds vouched for a build's inputs.
create table build_pipes (
  to_build_id integer not null references builds on delete cascade,
  from_build_id integer not null references builds on delete cascade,
  primary key (to_build_id, from_build_id)
) strict, without rowid;

-- The answer of the last schedule pass: a version for each input, or the reason why there is none.
create table next_inputs (
  job_id integer not null references jobs on delete cascade,
  name text not null,
  resource_id integer not null references resources on delete cascade,
  digest text,
  version text,
  first_occurrence integer not null default 0 check (first_occurrence in (0, 1)),
  -- JSON list of upstream build ids that vouch for it.
  from_builds text not null default '[]',
  reason text,
  -- JSON list: how far each job has come that it must pass, where that is the reason.
  passages text not null default '[]',
  -- Since when it is so.
  since integer not null default 0,
  primary key (job_id, name)
) strict, without rowid;

-- What the resolver knows to lead nowhere (JSON of schedule::memory::Memory), by the first input of the group.
create table resolver_memories (
  job_id integer not null references jobs on delete cascade,
  input text not null,
  memory text not null,
  primary key (job_id, input)
) strict, without rowid;

-- What a finished leaf of a running build left behind, by plan id: run again, it answers from here. Dropped at the end.
create table results (
  build_id integer not null references builds on delete cascade,
  plan_id text not null,
  result text not null,
  primary key (build_id, plan_id)
) strict, without rowid;

-- Written before the runtime is asked, so that nothing exists that nobody knows of.
create table containers (
  handle text primary key,
  team_id integer not null references teams on delete cascade,
  -- Null for checks without a row. Without a foreign key, so that what a removed build leaves can be told from them.
  build_id integer,
  plan_id text not null default '',
  -- task, get, put, check
  type text not null,
  step_name text not null,
  -- '1', '1.2': which of the attempts, nested ones dotted.
  attempt text not null default '',
  user text not null default '',
  working_directory text not null default '',
  created_at integer not null,
  -- Kept until this time because somebody is, or was, inside.
  hijacked_until integer not null default 0,
  resource_id integer references resources on delete set null
) strict, without rowid;
create index containers_by_build on containers (build_id);

create table volumes (
  handle text primary key,
  team_id integer not null references teams on delete cascade,
  -- artifact (output of a step), input (copy-on-write child for one container), cache (of a task), resource (a fetched version)
  kind text not null check (kind in ('artifact', 'input', 'cache', 'resource')),
  parent text references volumes,
  container text,
  build_id integer references builds on delete set null,
  -- Name of the artifact or path of the mount, for people.
  path text not null default '',
  created_at integer not null
) strict, without rowid;
create index volumes_by_build on volumes (build_id);
create index volumes_by_parent on volumes (parent) where parent is not null;

-- Fetched versions that later gets may use: one row per (team, type chain, source, version, params).
create table resource_caches (
  key text primary key,
  team_id integer not null references teams on delete cascade,
  volume text not null references volumes,
  -- The base type at the end of its chain of types, for people.
  base_type text not null default '',
  -- JSON of resource::Response as the fetch answered.
  response text not null,
  -- JSON of the engine's image where the fetch was an image pull, else null.
  image text,
  last_used integer not null
) strict, without rowid;

create index resource_caches_by_volume on resource_caches (volume);

-- Which resources have used a fetched version, so that their caches can be cleared.
create table resource_cache_uses (
  key text not null references resource_caches on delete cascade,
  resource_id integer not null references resources on delete cascade,
  -- SHA-256 of the version's canonical JSON.
  digest text not null,
  primary key (resource_id, digest, key)
) strict, without rowid;

-- Which history the versions of a pipeline's resource type are in.
create table type_scopes (
  pipeline_id integer not null references pipelines on delete cascade,
  name text not null,
  scope_id integer not null references scopes on delete cascade,
  primary key (pipeline_id, name)
) strict, without rowid;
create index type_scopes_by_scope on type_scopes (scope_id);

-- Uploads for one-off builds, and outputs of builds kept for download, for half a day.
create table artifacts (
  id integer primary key autoincrement,
  team_id integer not null references teams on delete cascade,
  -- The output's name; '' for an upload.
  name text not null default '',
  volume text not null references volumes,
  build_id integer references builds on delete cascade,
  created_at integer not null
) strict;
create index artifacts_of_build on artifacts (build_id) where build_id is not null;
create index artifacts_by_volume on artifacts (volume);

create table task_caches (
  job_id integer not null references jobs on delete cascade,
  step_name text not null,
  path text not null,
  volume text not null references volumes,
  last_used integer not null,
  -- Milliseconds after its last use for which it is kept; 0 is for ever.
  ttl integer not null default 0,
  primary key (job_id, step_name, path)
) strict, without rowid;
create index task_caches_by_volume on task_caches (volume);

-- Single values: 'cluster_name', 'installation', 'wall', 'config_version' (the sequence), 'one_off' (the sequence).
create table settings (
  name text primary key,
  value text not null
) strict, without rowid;

-- The passes, under the names that the API gives them.
create table components (
  name text primary key,
  -- Milliseconds that it waits at most.
  interval integer not null,
  last_ran integer not null,
  paused integer not null default 0 check (paused in (0, 1))
) strict, without rowid;

-- Who did what: each change, each sign-in, each use of a service account.
create table audit (
  id integer primary key autoincrement,
  at integer not null,
  -- The route's name, such as CreateJobBuild, or SignIn.
  action text not null,
  -- The name shown, and the identity behind it; '' for nobody known.
  user text not null,
  sub text not null default '',
  -- How they signed in.
  connector text not null default '',
  -- From where.
  address text not null default '',
  -- The team it was done to; null once that is gone, or where there is none.
  team_id integer,
  team text not null default '',
  -- What it was done to, such as 'pipeline p, job j'.
  object text not null default '',
  parameters text not null default '{}',
  status integer not null,
  -- Digest over the row before's and this row: a row that was changed or taken out breaks the chain.
  chain text not null
) strict;
create index audit_of_team on audit (team_id, id) where team_id is not null;
create index audit_by_time on audit (at);

-- Secrets of the store of our own, sealed (AES-256-GCM, bound to team, pipeline and name): without the key, which is not
-- in this file, nobody reads them.
create table secrets (
  team_id integer not null references teams on delete cascade,
  -- Name of the pipeline it is for, or '' for all of the team's.
  pipeline text not null default '',
  name text not null,
  -- Which key has sealed it.
  key text not null,
  sealed blob not null,
  changed_at integer not null,
  changed_by text not null default '',
  last_used integer not null default 0,
  primary key (team_id, pipeline, name)
) strict, without rowid;

-- Which builds were given which secret: by the variable's name and by the path that answered. Never a value.
create table secret_uses (
  build_id integer not null references builds on delete cascade,
  team_id integer not null references teams on delete cascade,
  -- As written in the pipeline: 'name' or 'source:name'.
  name text not null,
  path text not null,
  at integer not null,
  primary key (build_id, name)
) strict, without rowid;
create index secret_uses_by_name on secret_uses (team_id, name);
create index secret_uses_by_path on secret_uses (team_id, path);

-- Keys that sign the identity tokens of builds (var_sources of type idtoken) and those of people who sign in; neither
-- signs for the other. The private half is sealed as a secret is.
create table signing_keys (
  id text primary key,
  purpose text not null check (purpose in ('builds', 'sign-ins')),
  algorithm text not null check (algorithm in ('RS256', 'ES256')),
  -- JSON Web Key.
  public text not null,
  key text not null,
  sealed blob not null,
  created_at integer not null
) strict, without rowid;

-- The password of the user that belongs to a team, sealed; made when a pipeline first asks for it.
create table team_users (
  team_id integer primary key references teams on delete cascade,
  key text not null,
  sealed blob not null
) strict;
