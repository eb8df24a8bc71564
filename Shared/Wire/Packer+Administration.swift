import CProtobufC
import CWire
import Failure

extension Packer {
    func drain(_ drain: Drain) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Drain> {
        let result = try make(zoetrope__drain__init)
        result.pointee.worker = try text(drain.worker, "drain.worker")
        result.pointee.stage = try text(drain.stage, "drain.stage")
        result.pointee.broker = drain.broker ? 1 : 0
        result.pointee.resume = drain.resume ? 1 : 0
        return result
    }

    func draining(_ draining: Draining) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Draining> {
        let result = try make(zoetrope__draining__init)
        result.pointee.n_workers = draining.workers.count
        result.pointee.workers = try array(
            draining.workers, "draining.workers", limit: Limits.workersPerCluster
        ) { (name) throws(Failure) in try text(name, "draining.workers") }
        result.pointee.broker = draining.broker ? 1 : 0
        return result
    }

    func deadQuery(_ query: DeadQuery) throws(Failure) -> UnsafeMutablePointer<Zoetrope__DeadQuery> {
        let result = try make(zoetrope__dead_query__init)
        result.pointee.job = try text(query.job, "dead_query.job")
        result.pointee.before = try text(query.before, "dead_query.before")
        result.pointee.limit = query.limit
        result.pointee.before_unix_milliseconds = query.beforeUnixMilliseconds
        return result
    }

    func incident(_ incident: Incident) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Incident> {
        let result = try make(zoetrope__incident__init)
        result.pointee.task = try text(incident.task, "incident.task")
        result.pointee.kind = try text(incident.kind, "incident.kind")
        result.pointee.code = try text(incident.code, "incident.code")
        result.pointee.message = try prose(incident.message)
        result.pointee.worker = try text(incident.worker, "incident.worker")
        result.pointee.numerics = try text(incident.numerics, "incident.numerics", limit: Limits.messageBytes)
        result.pointee.process_end = try prose(incident.processEnd)
        result.pointee.step = incident.step
        result.pointee.fence = incident.fence
        result.pointee.granted_unix_milliseconds = incident.grantedUnixMilliseconds
        result.pointee.ended_unix_milliseconds = incident.endedUnixMilliseconds
        result.pointee.quarantined = incident.isQuarantined ? 1 : 0
        return result
    }

    func deadJob(_ job: DeadJob) throws(Failure) -> UnsafeMutablePointer<Zoetrope__DeadJob> {
        let result = try make(zoetrope__dead_job__init)
        result.pointee.job = try text(job.job, "dead_job.job")
        result.pointee.state = Zoetrope__JobState(rawValue: .init(job.state.rawValue))
        result.pointee.finished_unix_milliseconds = job.finishedUnixMilliseconds
        result.pointee.error_code = try text(job.errorCode, "dead_job.error_code")
        result.pointee.error_message = try prose(job.errorMessage)
        result.pointee.task = try text(job.task, "dead_job.task")
        result.pointee.stage = try text(job.stage, "dead_job.stage")
        result.pointee.attempts = job.attempts
        result.pointee.crashes = job.crashes
        result.pointee.failures = job.failures
        result.pointee.checkpoint_step = job.checkpointStep
        result.pointee.retried_as = try text(job.retriedAs, "dead_job.retried_as")
        result.pointee.cell = try text(job.cell, "dead_job.cell", limit: Limits.cellBytes)
        result.pointee.created_unix_milliseconds = job.createdUnixMilliseconds
        result.pointee.n_incidents = job.incidents.count
        result.pointee.incidents = try list(job.incidents, "dead_job.incidents", limit: Limits.incidents, incident)
        return result
    }

    func deadPage(_ page: DeadPage) throws(Failure) -> UnsafeMutablePointer<Zoetrope__DeadPage> {
        let result = try make(zoetrope__dead_page__init)
        result.pointee.n_jobs = page.jobs.count
        result.pointee.jobs = try list(page.jobs, "dead_page.jobs", limit: Limits.jobsPerPage, deadJob)
        result.pointee.has_more = page.hasMore ? 1 : 0
        return result
    }

    func deadRetry(_ retry: DeadRetry) throws(Failure) -> UnsafeMutablePointer<Zoetrope__DeadRetry> {
        let result = try make(zoetrope__dead_retry__init)
        result.pointee.job = try text(retry.job, "dead_retry.job")
        result.pointee.idempotency_key = try text(retry.idempotencyKey, "dead_retry.idempotency_key")
        return result
    }
}
