import Failure
import GatewayService
import Tensor
import Wire

/// A broker in memory: keeps what is submitted and lets a test say what becomes of it.
actor FakeJobService: JobService {
    private var jobs: [JobStatus] = []
    private var keys: [String: (digest: Digest, job: String)] = [:]
    private var scripts: [String: [JobStatus]] = [:]
    private var files: [Digest: [UInt8]] = [:]
    private(set) var submitted: [Submit] = []
    private(set) var fileReads = 0
    private var failure: Failure?
    private(set) var drains: [Drain] = []
    private var deadJobs: [DeadJob] = []
    private var workers: [ClusterStatus.Worker]
    private var counts: [ClusterStatus.Count] = []
    private var pictures: [Preview] = []
    private let pause: Duration

    /// - Parameter pause: how long each change of a watched job takes.
    init(workers: [ClusterStatus.Worker] = [], pause: Duration = .zero) {
        self.workers = workers
        self.pause = pause
    }

    // MARK: What a test arranges

    /// Every call fails with `failure` from now on.
    func fail(with failure: Failure) { self.failure = failure }

    func store(_ bytes: [UInt8], as digest: Digest) { files[digest] = bytes }

    func add(_ job: JobStatus) { jobs.append(job) }

    /// Newest first.
    func add(dead jobs: [DeadJob]) { deadJobs += jobs }

    func update(_ id: String, _ change: @Sendable (inout JobStatus) -> Void) {
        guard let index = jobs.firstIndex(where: { $0.job == id }) else { return }
        change(&jobs[index])
        jobs[index].revision += 1
    }

    /// What whoever looks at previews will see.
    func show(_ pictures: [Preview]) { self.pictures = pictures }

    /// What a watcher of the job will see after its present state.
    func script(_ id: String, _ statuses: [JobStatus]) { scripts[id] = statuses }

    // MARK: JobService

    func submit(_ submit: Submit) throws(Failure) -> Accepted {
        if let failure { throw failure }
        if !submit.idempotencyKey.isEmpty, let known = keys[submit.idempotencyKey] {
            guard known.digest == submit.requestDigest else {
                throw Failure("key_reused_with_other_body", "The key was used for another request.")
            }
            return Accepted(job: known.job, replayed: true)
        }
        submitted.append(submit)
        let tail = String(submitted.count, radix: 16)
        let id = "video_" + String(repeating: "0", count: 32 - tail.count) + tail
        jobs.append(
            JobStatus(
                job: id, state: .accepted, revision: 1, createdUnixMilliseconds: 1_700_000_000_000 + UInt64(jobs.count),
                queuePosition: UInt32(jobs.count), specification: submit.specification,
                tasks: submit.tasks.map {
                    TaskStatus(name: $0.name, stage: $0.stage, state: $0.inputs.isEmpty ? .ready : .blocked)
                }))
        if !submit.idempotencyKey.isEmpty { keys[submit.idempotencyKey] = (submit.requestDigest, id) }
        return Accepted(job: id, replayed: false)
    }

    func status(job: String) throws(Failure) -> JobStatus {
        if let failure { throw failure }
        guard let found = jobs.first(where: { $0.job == job }) else {
            throw Failure("job_not_found", "There is no job \(job).", field: "id")
        }
        return found
    }

    func list(before: String, limit: Int) throws(Failure) -> StatusPage {
        if let failure { throw failure }
        let newestFirst = Array(jobs.reversed())
        var start = 0
        if !before.isEmpty {
            guard let index = newestFirst.firstIndex(where: { $0.job == before }) else {
                throw Failure("job_not_found", "There is no job \(before).", field: "after")
            }
            start = index + 1
        }
        let page = newestFirst[start...].prefix(limit)
        return StatusPage(jobs: Array(page), hasMore: start + page.count < jobs.count)
    }

    func previews(job: String) throws(Failure) -> AsyncThrowingStream<Preview, any Error> {
        let pictures = pictures
        return AsyncThrowingStream { continuation in
            for picture in pictures { continuation.yield(picture) }
        }
    }

    func watch(job: String) throws(Failure) -> AsyncThrowingStream<JobStatus, any Error> {
        let statuses = [try status(job: job)] + (scripts[job] ?? [])
        let (stream, continuation) = AsyncThrowingStream<JobStatus, any Error>.makeStream()
        let feed = Task { [pause] in
            for status in statuses {
                continuation.yield(status)
                try await Task.sleep(for: pause)
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in feed.cancel() }
        return stream
    }

    func cancel(job: String) throws(Failure) -> CancelOutcome {
        let found = try status(job: job)
        if !found.state.isTerminal {
            update(job) {
                $0.state = .cancelled
                $0.finishedUnixMilliseconds = 1_700_000_009_000
            }
            return CancelOutcome(job: job, state: .cancelled)
        }
        return CancelOutcome(job: job, state: found.state)
    }

    func store(_ tensor: Tensor) throws(Failure) -> TensorRef {
        if let failure { throw failure }
        let bytes = tensor.withUnsafeBytes { Array($0) }
        let digest = Digest.of(bytes)
        files[digest] = bytes
        return TensorRef(digest: digest, dtype: tensor.dtype, shape: tensor.shape, locations: [])
    }

    func stored(_ digest: Digest, dtype: DType, shape: [Int]) -> TensorRef {
        TensorRef(digest: digest, dtype: dtype, shape: shape, locations: [])
    }

    /// What the broker has counted.
    func count(_ counts: [ClusterStatus.Count]) { self.counts = counts }

    func cluster() throws(Failure) -> ClusterStatus {
        if let failure { throw failure }
        let running = jobs.filter { $0.state == .running }.count
        let queued = jobs.filter { $0.state == .accepted }.count
        return ClusterStatus(
            workers: workers, queuedJobs: UInt32(queued), runningJobs: UInt32(running), counts: counts)
    }

    func drain(_ drain: Drain) throws(Failure) -> Draining {
        if let failure { throw failure }
        drains.append(drain)
        let matching = workers.filter { worker in
            drain.worker == worker.worker || worker.capabilities.contains { $0.stage == drain.stage }
        }
        guard drain.broker || !matching.isEmpty else { throw Failure("worker_not_found", "Nobody.") }
        return Draining(workers: drain.broker ? [] : matching.map(\.worker), broker: drain.broker && !drain.resume)
    }

    func dead(_ query: DeadQuery) throws(Failure) -> DeadPage {
        if let failure { throw failure }
        if query.job.isEmpty {
            let older = query.before.isEmpty ? deadJobs[...] : deadJobs.drop { $0.job != query.before }.dropFirst()
            let page = older.prefix(Int(query.limit))
            return DeadPage(jobs: Array(page), hasMore: page.count < older.count)
        }
        guard let found = deadJobs.first(where: { $0.job == query.job }) else {
            throw Failure("job_not_dead", "It lives.")
        }
        return DeadPage(jobs: [found], hasMore: false)
    }

    func retry(_ retry: DeadRetry) throws(Failure) -> Accepted {
        _ = try dead(DeadQuery(job: retry.job))
        let id = "video_retry"
        jobs.append(
            JobStatus(
                job: id, state: .accepted, revision: 1, createdUnixMilliseconds: 1, specification: "{}", tasks: []))
        return Accepted(job: id, replayed: false)
    }

    func bytes(of ref: TensorRef) throws(Failure) -> [UInt8] {
        fileReads += 1
        guard let bytes = files[ref.digest] else {
            throw Failure("input_missing", "Nobody holds \(ref.digest).", retry: .otherWorker)
        }
        return bytes
    }
}
