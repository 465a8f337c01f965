-- Pages of jobs, newest first, by what they are asked for: what is seldom (a resource that was loaded twice, the few that wait) is not
-- looked for among all jobs.
CREATE INDEX jobs_newest_by_status ON penstock.jobs (status, created_at DESC, job_id DESC);
CREATE INDEX jobs_newest_by_resource ON penstock.jobs (resource, created_at DESC, job_id DESC);
CREATE INDEX jobs_newest_by_both ON penstock.jobs (resource, status, created_at DESC, job_id DESC);
