import Failure
import GatewayService
import Tensor
import Wire

/// One broker of several, in memory: a test takes it away and brings it back.
actor FakeCell: CellService {
    let name: String
    private(set) var jobs: [JobStatus] = []
    private var keys: [String: (digest: Digest, job: String)] = [:]
    private(set) var submitted: [Submit] = []
    private(set) var blobs: [Digest: [UInt8]] = [:]
    private(set) var drains: [Drain] = []
    private(set) var watched: [String] = []
    private var isAway = false
    private var backlogMilliseconds: UInt64 = 0
    private var workers: [ClusterStatus.Worker]
    private var isDraining = false
    private var refusal: Failure?
    private let location: Location

    init(_ name: String, workers: [ClusterStatus.Worker] = GatewayFixture.completeCluster) {
        self.name = name
        self.workers = workers
        location = .ipc(host: "here", socket: "\(name)-data.sock")
    }

    // MARK: What a test arranges

    func leave() { isAway = true }

    func comeBack() { isAway = false }

    func expectWait(_ milliseconds: UInt64) { backlogMilliseconds = milliseconds }

    func employ(_ workers: [ClusterStatus.Worker]) { self.workers = workers }

    func refuse(with failure: Failure?) { refusal = failure }

    @discardableResult
    func add(_ number: Int, at created: UInt64, id: String? = nil) -> String {
        let digits = String(number, radix: 16)
        let id = id ?? "video_" + CellName.tag(of: name) + String(repeating: "0", count: 24 - digits.count) + digits
        jobs.append(
            JobStatus(
                job: id, state: .running, revision: 1, createdUnixMilliseconds: created, specification: "{}", tasks: [],
                cell: name))
        return id
    }

    private func answer() throws(Failure) {
        if isAway { throw Failure("broker_unreachable", "the broker at \(name) cannot be reached") }
    }

    // MARK: CellService

    func cell() throws(Failure) -> String {
        try answer()
        return name
    }

    var isConnected: Bool { !isAway }

    func check() throws(Failure) -> ClusterStatus { try cluster() }

    func storeLocations() throws(Failure) -> [Location] {
        try answer()
        return [location]
    }

    func list(before: String, acceptedBefore: UInt64, limit: Int) throws(Failure) -> StatusPage {
        try answer()
        var older = Array(jobs.reversed())
        if !before.isEmpty {
            guard let place = older.firstIndex(where: { $0.job == before }) else {
                throw Failure("job_not_found", "There is no job \(before).")
            }
            older = Array(older[(place + 1)...])
        }
        if acceptedBefore > 0 { older = older.filter { $0.createdUnixMilliseconds < acceptedBefore } }
        return StatusPage(jobs: Array(older.prefix(limit)), hasMore: older.count > limit)
    }

    // MARK: JobService

    func submit(_ submit: Submit) throws(Failure) -> Accepted {
        try answer()
        if !submit.idempotencyKey.isEmpty, let known = keys[submit.idempotencyKey] {
            guard known.digest == submit.requestDigest else {
                throw Failure("key_reused_with_other_body", "The key was used for another request.")
            }
            return Accepted(job: known.job, replayed: true)
        }
        if submit.replayOnly { throw Failure("idempotency_key_unknown", "No job has it.") }
        if let refusal { throw refusal }
        submitted.append(submit)
        let id = add(submitted.count, at: 1_700_000_000_000 + UInt64(submitted.count))
        if !submit.idempotencyKey.isEmpty { keys[submit.idempotencyKey] = (submit.requestDigest, id) }
        return Accepted(job: id, replayed: false)
    }

    func status(job: String) throws(Failure) -> JobStatus {
        try answer()
        guard let found = jobs.first(where: { $0.job == job }) else {
            throw Failure("job_not_found", "There is no job \(job).", field: "id")
        }
        return found
    }

    func list(before: String, limit: Int) throws(Failure) -> StatusPage {
        try list(before: before, acceptedBefore: 0, limit: limit)
    }

    func previews(job: String) throws(Failure) -> AsyncThrowingStream<Preview, any Error> {
        AsyncThrowingStream { $0.finish() }
    }

    func watch(job: String) throws(Failure) -> AsyncThrowingStream<JobStatus, any Error> {
        let status = try status(job: job)
        watched.append(job)
        return AsyncThrowingStream { continuation in
            continuation.yield(status)
            continuation.finish()
        }
    }

    func cancel(job: String) throws(Failure) -> CancelOutcome {
        _ = try status(job: job)
        return CancelOutcome(job: job, state: .cancelled)
    }

    func cluster() throws(Failure) -> ClusterStatus {
        try answer()
        return ClusterStatus(
            workers: workers, queuedJobs: 0, runningJobs: UInt32(jobs.count), isDraining: isDraining, cell: name,
            backlogMilliseconds: backlogMilliseconds)
    }

    func drain(_ drain: Drain) throws(Failure) -> Draining {
        try answer()
        drains.append(drain)
        if drain.broker { isDraining = !drain.resume }
        let names = workers.map(\.worker).filter { $0 == drain.worker }
        guard drain.broker || !names.isEmpty else { throw Failure("worker_not_found", "Nobody.") }
        return Draining(workers: names, broker: isDraining)
    }

    func dead(_ query: DeadQuery) throws(Failure) -> DeadPage {
        let page = try list(
            before: query.before, acceptedBefore: query.beforeUnixMilliseconds, limit: Int(query.limit))
        return DeadPage(
            jobs: page.jobs.map {
                DeadJob(
                    job: $0.job, state: .dead, finishedUnixMilliseconds: 1, errorCode: "worker_lost", errorMessage: "",
                    cell: name, createdUnixMilliseconds: $0.createdUnixMilliseconds)
            }, hasMore: page.hasMore)
    }

    func retry(_ retry: DeadRetry) throws(Failure) -> Accepted {
        _ = try status(job: retry.job)
        return Accepted(job: add(900 + jobs.count, at: 1_800_000_000_000), replayed: false)
    }

    func bytes(of ref: TensorRef) throws(Failure) -> [UInt8] {
        try answer()
        guard let bytes = blobs[ref.digest] else {
            throw Failure("input_missing", "Nobody holds \(ref.digest).", retry: .otherWorker)
        }
        return bytes
    }

    func store(_ tensor: Tensor) throws(Failure) -> TensorRef {
        try answer()
        let bytes = tensor.withUnsafeBytes { Array($0) }
        blobs[Digest.of(bytes)] = bytes
        return TensorRef(digest: Digest.of(bytes), dtype: tensor.dtype, shape: tensor.shape, locations: [location])
    }

    func stored(_ digest: Digest, dtype: DType, shape: [Int]) throws(Failure) -> TensorRef {
        try answer()
        return TensorRef(digest: digest, dtype: dtype, shape: shape, locations: [location])
    }
}
