import CProtobufC
import CWire
import Failure

extension Unpacker {
    func drain(_ raw: Zoetrope__Drain) throws(Failure) -> Drain {
        try visit(raw.base)
        return Drain(
            worker: try text(raw.worker, "drain.worker"), stage: try text(raw.stage, "drain.stage"),
            broker: raw.broker != 0, resume: raw.resume != 0)
    }

    func draining(_ raw: Zoetrope__Draining) throws(Failure) -> Draining {
        try visit(raw.base)
        return Draining(
            workers: try texts(
                raw.n_workers, raw.workers, "draining.workers", limit: Limits.workersPerCluster,
                textLimit: Limits.nameBytes),
            broker: raw.broker != 0)
    }

    func deadQuery(_ raw: Zoetrope__DeadQuery) throws(Failure) -> DeadQuery {
        try visit(raw.base)
        return DeadQuery(
            job: try text(raw.job, "dead_query.job"), before: try text(raw.before, "dead_query.before"),
            limit: raw.limit, beforeUnixMilliseconds: raw.before_unix_milliseconds)
    }

    func incident(_ raw: Zoetrope__Incident) throws(Failure) -> Incident {
        try visit(raw.base)
        return Incident(
            task: try text(raw.task, "incident.task"), kind: try text(raw.kind, "incident.kind"),
            code: try text(raw.code, "incident.code"), message: try prose(raw.message, "incident.message"),
            worker: try text(raw.worker, "incident.worker"),
            numerics: try text(raw.numerics, "incident.numerics", limit: Limits.messageBytes),
            processEnd: try prose(raw.process_end, "incident.process_end"), step: raw.step, fence: raw.fence,
            grantedUnixMilliseconds: raw.granted_unix_milliseconds,
            endedUnixMilliseconds: raw.ended_unix_milliseconds, isQuarantined: raw.quarantined != 0)
    }

    func deadJob(_ raw: Zoetrope__DeadJob) throws(Failure) -> DeadJob {
        try visit(raw.base)
        return DeadJob(
            job: try text(raw.job, "dead_job.job"),
            state: try checked(raw.state.rawValue, "dead_job.state", as: JobState.self),
            finishedUnixMilliseconds: raw.finished_unix_milliseconds,
            errorCode: try text(raw.error_code, "dead_job.error_code"),
            errorMessage: try prose(raw.error_message, "dead_job.error_message"),
            task: try text(raw.task, "dead_job.task"), stage: try text(raw.stage, "dead_job.stage"),
            attempts: raw.attempts, crashes: raw.crashes, failures: raw.failures,
            checkpointStep: raw.checkpoint_step, retriedAs: try text(raw.retried_as, "dead_job.retried_as"),
            incidents: try list(
                raw.n_incidents, raw.incidents, "dead_job.incidents", limit: Limits.incidents, incident),
            cell: try text(raw.cell, "dead_job.cell", limit: Limits.cellBytes),
            createdUnixMilliseconds: raw.created_unix_milliseconds)
    }

    func deadPage(_ raw: Zoetrope__DeadPage) throws(Failure) -> DeadPage {
        try visit(raw.base)
        return DeadPage(
            jobs: try list(raw.n_jobs, raw.jobs, "dead_page.jobs", limit: Limits.jobsPerPage, deadJob),
            hasMore: raw.has_more != 0)
    }

    func deadRetry(_ raw: Zoetrope__DeadRetry) throws(Failure) -> DeadRetry {
        try visit(raw.base)
        return DeadRetry(
            job: try text(raw.job, "dead_retry.job"),
            idempotencyKey: try text(raw.idempotency_key, "dead_retry.idempotency_key"))
    }
}
