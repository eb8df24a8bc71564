import CProtobufC
import CWire
import Failure

extension Unpacker {
    func taskInput(_ raw: Zoetrope__TaskInput) throws(Failure) -> TaskInput {
        try visit(raw.base)
        let source: InputSource
        switch raw.source_case {
        case ZOETROPE__TASK_INPUT__SOURCE_TASK:
            let task = try required(raw.task, "input.task")
            try visit(task.base)
            source = .task(name: try text(task.task, "input.task"), output: try text(task.output, "input.output"))
        case ZOETROPE__TASK_INPUT__SOURCE_BLOB:
            source = .blob(try tensorRef(required(raw.blob, "input.blob")))
        default:
            throw Failure("malformed", "an input without a source", field: "input.source")
        }
        return TaskInput(name: try text(raw.name, "input.name"), source: source)
    }

    func taskSpecification(_ raw: Zoetrope__TaskSpecification) throws(Failure) -> TaskSpecification {
        try visit(raw.base)
        return TaskSpecification(
            name: try text(raw.name, "task.name"), stage: try text(raw.stage, "task.stage"),
            model: try text(raw.model, "task.model"),
            parameters: try text(raw.parameters, "task.parameters", limit: Limits.parameterBytes),
            inputs: try list(raw.n_inputs, raw.inputs, "task.inputs", limit: Limits.inputsPerTask, taskInput),
            durableOutputs: raw.durable_outputs != 0, affinity: try text(raw.affinity, "task.affinity"))
    }

    func submit(_ raw: Zoetrope__Submit) throws(Failure) -> Submit {
        try visit(raw.base)
        try Bounds.check(deadline: raw.deadline_milliseconds)
        return Submit(
            idempotencyKey: try text(raw.idempotency_key, "submit.idempotency_key"),
            requestDigest: try digest(raw.request_digest), tenant: try text(raw.tenant, "submit.tenant"),
            priority: raw.priority,
            specification: try text(
                raw.specification, "submit.specification", limit: Limits.specificationBytes),
            tasks: try list(raw.n_tasks, raw.tasks, "submit.tasks", limit: Limits.tasksPerJob, taskSpecification),
            deadlineMilliseconds: raw.deadline_milliseconds,
            replayOnly: raw.replay_only != 0)
    }

    func accepted(_ raw: Zoetrope__Accepted) throws(Failure) -> Accepted {
        try visit(raw.base)
        return Accepted(job: try text(raw.job, "accepted.job"), replayed: raw.replayed != 0)
    }

    func query(_ raw: Zoetrope__Query) throws(Failure) -> Query {
        try visit(raw.base)
        return Query(
            job: try text(raw.job, "query.job"), before: try text(raw.before, "query.before"), limit: raw.limit,
            beforeUnixMilliseconds: raw.before_unix_milliseconds)
    }

    func taskStatus(_ raw: Zoetrope__TaskStatus) throws(Failure) -> TaskStatus {
        try visit(raw.base)
        return TaskStatus(
            name: try text(raw.name, "task.name"), stage: try text(raw.stage, "task.stage"),
            state: try checked(raw.state.rawValue, "task.state", as: TaskState.self),
            worker: try text(raw.worker, "task.worker"), attempt: raw.attempt, step: raw.step,
            totalSteps: raw.total_steps, elapsedMilliseconds: raw.elapsed_milliseconds,
            remainingMilliseconds: raw.remaining_milliseconds,
            notes: try texts(
                raw.n_notes, raw.notes, "task.notes", limit: Limits.notes, textLimit: Limits.messageBytes))
    }

    func jobStatus(_ raw: Zoetrope__JobStatus) throws(Failure) -> JobStatus {
        try visit(raw.base)
        return JobStatus(
            job: try text(raw.job, "job.job"),
            state: try checked(raw.state.rawValue, "job.state", as: JobState.self), revision: raw.revision,
            createdUnixMilliseconds: raw.created_unix_milliseconds,
            finishedUnixMilliseconds: raw.finished_unix_milliseconds, priority: raw.priority,
            queuePosition: raw.queue_position, remainingMilliseconds: raw.remaining_milliseconds,
            specification: try text(raw.specification, "job.specification", limit: Limits.specificationBytes),
            tasks: try list(raw.n_tasks, raw.tasks, "job.tasks", limit: Limits.tasksPerJob, taskStatus),
            outputs: try list(raw.n_outputs, raw.outputs, "job.outputs", limit: Limits.namedRefs, namedRef),
            errorCode: try text(raw.error_code, "job.error_code"),
            errorMessage: try prose(raw.error_message, "job.error_message"),
            deadlineUnixMilliseconds: raw.deadline_unix_milliseconds,
            cell: try text(raw.cell, "job.cell", limit: Limits.cellBytes))
    }

    func statusPage(_ raw: Zoetrope__StatusPage) throws(Failure) -> StatusPage {
        try visit(raw.base)
        return StatusPage(
            jobs: try list(raw.n_jobs, raw.jobs, "status.jobs", limit: Limits.jobsPerPage, jobStatus),
            hasMore: raw.has_more != 0)
    }

    func watch(_ raw: Zoetrope__Watch) throws(Failure) -> Watch {
        try visit(raw.base)
        return Watch(job: try text(raw.job, "watch.job"), revision: raw.revision)
    }

    func cancel(_ raw: Zoetrope__Cancel) throws(Failure) -> String {
        try visit(raw.base)
        return try text(raw.job, "cancel.job")
    }

    func cancelOutcome(_ raw: Zoetrope__CancelOutcome) throws(Failure) -> CancelOutcome {
        try visit(raw.base)
        return CancelOutcome(
            job: try text(raw.job, "cancel_outcome.job"),
            state: try checked(raw.state.rawValue, "cancel_outcome.state", as: JobState.self))
    }

    func clusterWorker(_ raw: Zoetrope__ClusterWorker) throws(Failure) -> ClusterStatus.Worker {
        try visit(raw.base)
        return ClusterStatus.Worker(
            worker: try text(raw.worker, "cluster.worker"),
            capabilities: try list(
                raw.n_capabilities, raw.capabilities, "cluster.capabilities", limit: Limits.capabilitiesPerWorker,
                capability),
            slots: raw.slots, busy: raw.busy, millisecondsSinceBeat: raw.milliseconds_since_beat,
            isDraining: raw.draining != 0, fetched: try fetchCounters(raw.fetched), previews: raw.previews,
            warm: try texts(
                raw.n_warm, raw.warm, "cluster.warm", limit: Limits.warmPerWorker, textLimit: Limits.nameBytes))
    }

    func clusterStatus(_ raw: Zoetrope__ClusterStatus) throws(Failure) -> ClusterStatus {
        try visit(raw.base)
        return ClusterStatus(
            workers: try list(
                raw.n_workers, raw.workers, "cluster.workers", limit: Limits.workersPerCluster, clusterWorker),
            queuedJobs: raw.queued_jobs, runningJobs: raw.running_jobs, isDraining: raw.draining != 0,
            cell: try text(raw.cell, "cluster.cell", limit: Limits.cellBytes),
            backlogMilliseconds: raw.backlog_milliseconds,
            counts: try list(raw.n_counts, raw.counts, "cluster.counts", limit: Limits.counts, count))
    }

    func count(_ raw: Zoetrope__Count) throws(Failure) -> ClusterStatus.Count {
        try visit(raw.base)
        return ClusterStatus.Count(name: try text(raw.name, "count.name"), value: raw.value)
    }
}
