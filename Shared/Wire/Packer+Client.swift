import CProtobufC
import CWire
import Failure

extension Packer {
    func taskInput(_ input: TaskInput) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TaskInput> {
        let result = try make(zoetrope__task_input__init)
        result.pointee.name = try text(input.name, "input.name")
        switch input.source {
        case .task(let name, let output):
            let source = try make(zoetrope__task_output__init)
            source.pointee.task = try text(name, "input.task")
            source.pointee.output = try text(output, "input.output")
            result.pointee.source_case = ZOETROPE__TASK_INPUT__SOURCE_TASK
            result.pointee.task = source
        case .blob(let ref):
            result.pointee.source_case = ZOETROPE__TASK_INPUT__SOURCE_BLOB
            result.pointee.blob = try tensorRef(ref)
        }
        return result
    }

    func taskSpecification(
        _ task: TaskSpecification
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TaskSpecification> {
        let result = try make(zoetrope__task_specification__init)
        result.pointee.name = try text(task.name, "task.name")
        result.pointee.stage = try text(task.stage, "task.stage")
        result.pointee.model = try text(task.model, "task.model")
        result.pointee.parameters = try text(task.parameters, "task.parameters", limit: Limits.parameterBytes)
        result.pointee.n_inputs = task.inputs.count
        result.pointee.inputs = try list(task.inputs, "task.inputs", limit: Limits.inputsPerTask, taskInput)
        result.pointee.durable_outputs = task.durableOutputs ? 1 : 0
        result.pointee.affinity = try text(task.affinity, "task.affinity")
        return result
    }

    func submit(_ submit: Submit) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Submit> {
        let result = try make(zoetrope__submit__init)
        result.pointee.idempotency_key = try text(submit.idempotencyKey, "submit.idempotency_key")
        result.pointee.request_digest = try digest(submit.requestDigest)
        result.pointee.tenant = try text(submit.tenant, "submit.tenant")
        result.pointee.priority = submit.priority
        result.pointee.specification = try text(
            submit.specification, "submit.specification", limit: Limits.specificationBytes)
        result.pointee.n_tasks = submit.tasks.count
        result.pointee.tasks = try list(submit.tasks, "submit.tasks", limit: Limits.tasksPerJob, taskSpecification)
        try Bounds.check(deadline: submit.deadlineMilliseconds)
        result.pointee.deadline_milliseconds = submit.deadlineMilliseconds
        result.pointee.replay_only = submit.replayOnly ? 1 : 0
        return result
    }

    func accepted(_ accepted: Accepted) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Accepted> {
        let result = try make(zoetrope__accepted__init)
        result.pointee.job = try text(accepted.job, "accepted.job")
        result.pointee.replayed = accepted.replayed ? 1 : 0
        return result
    }

    func query(_ query: Query) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Query> {
        let result = try make(zoetrope__query__init)
        result.pointee.job = try text(query.job, "query.job")
        result.pointee.before = try text(query.before, "query.before")
        result.pointee.limit = query.limit
        result.pointee.before_unix_milliseconds = query.beforeUnixMilliseconds
        return result
    }

    func taskStatus(_ task: TaskStatus) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TaskStatus> {
        let result = try make(zoetrope__task_status__init)
        result.pointee.name = try text(task.name, "task.name")
        result.pointee.stage = try text(task.stage, "task.stage")
        result.pointee.state = Zoetrope__TaskState(rawValue: .init(task.state.rawValue))
        result.pointee.worker = try text(task.worker, "task.worker")
        result.pointee.attempt = task.attempt
        result.pointee.step = task.step
        result.pointee.total_steps = task.totalSteps
        result.pointee.elapsed_milliseconds = task.elapsedMilliseconds
        result.pointee.remaining_milliseconds = task.remainingMilliseconds
        (result.pointee.n_notes, result.pointee.notes) = try notes(task.notes)
        return result
    }

    func jobStatus(_ job: JobStatus) throws(Failure) -> UnsafeMutablePointer<Zoetrope__JobStatus> {
        let result = try make(zoetrope__job_status__init)
        result.pointee.job = try text(job.job, "job.job")
        result.pointee.state = Zoetrope__JobState(rawValue: .init(job.state.rawValue))
        result.pointee.revision = job.revision
        result.pointee.created_unix_milliseconds = job.createdUnixMilliseconds
        result.pointee.finished_unix_milliseconds = job.finishedUnixMilliseconds
        result.pointee.priority = job.priority
        result.pointee.queue_position = job.queuePosition
        result.pointee.remaining_milliseconds = job.remainingMilliseconds
        result.pointee.specification = try text(
            job.specification, "job.specification", limit: Limits.specificationBytes)
        result.pointee.n_tasks = job.tasks.count
        result.pointee.tasks = try list(job.tasks, "job.tasks", limit: Limits.tasksPerJob, taskStatus)
        result.pointee.n_outputs = job.outputs.count
        result.pointee.outputs = try list(job.outputs, "job.outputs", limit: Limits.namedRefs, namedRef)
        result.pointee.error_code = try text(job.errorCode, "job.error_code")
        result.pointee.error_message = try prose(job.errorMessage)
        result.pointee.deadline_unix_milliseconds = job.deadlineUnixMilliseconds
        result.pointee.cell = try text(job.cell, "job.cell", limit: Limits.cellBytes)
        return result
    }

    func statusPage(_ page: StatusPage) throws(Failure) -> UnsafeMutablePointer<Zoetrope__StatusPage> {
        let result = try make(zoetrope__status_page__init)
        result.pointee.n_jobs = page.jobs.count
        result.pointee.jobs = try list(page.jobs, "status.jobs", limit: Limits.jobsPerPage, jobStatus)
        result.pointee.has_more = page.hasMore ? 1 : 0
        return result
    }

    func watch(_ watch: Watch) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Watch> {
        let result = try make(zoetrope__watch__init)
        result.pointee.job = try text(watch.job, "watch.job")
        result.pointee.revision = watch.revision
        return result
    }

    func cancel(job: String) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Cancel> {
        let result = try make(zoetrope__cancel__init)
        result.pointee.job = try text(job, "cancel.job")
        return result
    }

    func cancelOutcome(_ outcome: CancelOutcome) throws(Failure) -> UnsafeMutablePointer<Zoetrope__CancelOutcome> {
        let result = try make(zoetrope__cancel_outcome__init)
        result.pointee.job = try text(outcome.job, "cancel_outcome.job")
        result.pointee.state = Zoetrope__JobState(rawValue: .init(outcome.state.rawValue))
        return result
    }

    func clusterWorker(
        _ worker: ClusterStatus.Worker
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__ClusterWorker> {
        let result = try make(zoetrope__cluster_worker__init)
        result.pointee.worker = try text(worker.worker, "cluster.worker")
        result.pointee.n_capabilities = worker.capabilities.count
        result.pointee.capabilities = try list(
            worker.capabilities, "cluster.capabilities", limit: Limits.capabilitiesPerWorker, capability)
        result.pointee.slots = worker.slots
        result.pointee.busy = worker.busy
        result.pointee.milliseconds_since_beat = worker.millisecondsSinceBeat
        result.pointee.draining = worker.isDraining ? 1 : 0
        result.pointee.fetched = try fetchCounters(worker.fetched)
        result.pointee.previews = worker.previews
        result.pointee.n_warm = worker.warm.count
        result.pointee.warm = try array(worker.warm, "cluster.warm", limit: Limits.warmPerWorker) {
            (name) throws(Failure) in try text(name, "cluster.warm")
        }
        return result
    }

    func clusterStatus(_ cluster: ClusterStatus) throws(Failure) -> UnsafeMutablePointer<Zoetrope__ClusterStatus> {
        let result = try make(zoetrope__cluster_status__init)
        result.pointee.n_workers = cluster.workers.count
        result.pointee.workers = try list(
            cluster.workers, "cluster.workers", limit: Limits.workersPerCluster, clusterWorker)
        result.pointee.queued_jobs = cluster.queuedJobs
        result.pointee.running_jobs = cluster.runningJobs
        result.pointee.draining = cluster.isDraining ? 1 : 0
        result.pointee.cell = try text(cluster.cell, "cluster.cell", limit: Limits.cellBytes)
        result.pointee.backlog_milliseconds = cluster.backlogMilliseconds
        result.pointee.n_counts = cluster.counts.count
        result.pointee.counts = try list(cluster.counts, "cluster.counts", limit: Limits.counts, count)
        return result
    }

    func count(_ count: ClusterStatus.Count) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Count> {
        let result = try make(zoetrope__count__init)
        result.pointee.name = try text(count.name, "count.name")
        result.pointee.value = count.value
        return result
    }
}
