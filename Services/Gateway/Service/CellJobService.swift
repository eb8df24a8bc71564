package import Failure
import Synchronization
package import Tensor
package import Wire

/// Several brokers as one: every job lives in one of them for life.
///
/// A job's id leads to its cell. New jobs go to the live cell with the least expected wait; those with an idempotency
/// key always to the same cell, or nowhere (`CellJobService+Submitting.swift`). What concerns all cells (lists, workers,
/// health) is put together from those that answer.
///
/// ```swift
/// let service = CellJobService([.init(service: north, address: "tcp://10.0.0.1:7710", name: "north"), …])
/// await service.begin()
/// ```
package final class CellJobService: JobService {
    /// A broker and what the operator said about it.
    package struct Member: Sendable {
        package var service: any CellService
        package var address: String
        /// The name that its broker must have; nil takes whatever it says.
        package var name: String?

        package init(service: any CellService, address: String, name: String? = nil) {
            self.service = service
            self.address = address
            self.name = name
        }
    }

    let members: [CellMember]
    /// Takes turns between cells that are equally good.
    let turn = Atomic<Int>(0)

    /// - Parameter interval: how often each broker is asked whether it is there.
    package init(_ members: [Member], interval: Duration = .seconds(1)) {
        self.members = members.map {
            CellMember(service: $0.service, address: $0.address, expectedName: $0.name, interval: interval)
        }
    }

    /// Connects to every broker; returns when each has answered or failed to.
    package func begin() async {
        await withTaskGroup(of: Void.self) { group in
            for member in members { group.addTask { await member.settle() } }
        }
    }

    /// Stops asking. The brokers' own services stay open.
    package func close() async {
        for member in members { await member.close() }
    }

    // MARK: Which cell

    /// A member and the name it goes by.
    struct Present: Sendable {
        var member: CellMember
        var name: String
    }

    /// The cells that can be asked now, by name; of two with one name the first.
    func present() async -> [Present] {
        await begin()
        var found: [Present] = []
        for member in members {
            guard await member.absence == nil, let name = await member.name,
                !found.contains(where: { $0.name == name })
            else { continue }
            found.append(Present(member: member, name: name))
        }
        return found
    }

    /// Why each of the other cells cannot be asked.
    func absent() async -> [Failure] {
        var failures: [Failure] = []
        for member in members { if let absence = await member.absence { failures.append(absence) } }
        return failures
    }

    /// Runs `body` in the cell that has the job.
    ///
    /// - Throws: `cell_unreachable` when that cell is away, or when it cannot be told which one has the job while one is
    ///   away; `job_not_found`.
    func inCell<Value: Sendable>(
        of job: String, _ body: @Sendable (any CellService) async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await member(of: job).ask(body)
    }

    func member(of job: String) async throws(Failure) -> CellMember {
        await begin()
        let tag = CellName.tag(ofJob: job)
        var marked: [CellMember] = []
        for member in members {
            if let name = await member.name, CellName.tag(of: name) == tag { marked.append(member) }
        }
        if marked.count == 1 { return marked[0] }
        // A job from before its broker had this name, or an id that nobody gave: whoever knows it has it.
        for candidate in marked.isEmpty ? members : marked {
            guard await candidate.absence == nil else { continue }
            do throws(Failure) {
                _ = try await candidate.ask { (cell) throws(Failure) in try await cell.status(job: job) }
                return candidate
            } catch {
                guard error.code == "job_not_found" || error.code == "cell_unreachable" else { throw error }
            }
        }
        // It may be there; only a cell that answers can say that it is not.
        if let absence = await absent().first { throw absence }
        throw Failure("job_not_found", "there is no job \(job)", field: "job")
    }

    // MARK: One job

    package func status(job: String) async throws(Failure) -> JobStatus {
        try await inCell(of: job) { (cell) throws(Failure) in try await cell.status(job: job) }
    }

    package func watch(job: String) async throws(Failure) -> AsyncThrowingStream<JobStatus, any Error> {
        try await inCell(of: job) { (cell) throws(Failure) in try await cell.watch(job: job) }
    }

    package func previews(job: String) async throws(Failure) -> AsyncThrowingStream<Preview, any Error> {
        try await inCell(of: job) { (cell) throws(Failure) in try await cell.previews(job: job) }
    }

    package func cancel(job: String) async throws(Failure) -> CancelOutcome {
        try await inCell(of: job) { (cell) throws(Failure) in try await cell.cancel(job: job) }
    }

    /// A retry begins with what its predecessor has stored, so it is made in the same cell.
    package func retry(_ retry: DeadRetry) async throws(Failure) -> Accepted {
        try await inCell(of: retry.job) { (cell) throws(Failure) in try await cell.retry(retry) }
    }

    // MARK: Blobs

    /// Reads a blob in whichever cell has it; a reference names the holders of one.
    package func bytes(of ref: TensorRef) async throws(Failure) -> [UInt8] {
        let present = await holdersFirst(of: [ref], present())
        var problem = Failure("input_missing", "no cell can be asked for the blob \(ref.digest)", field: "digest")
        for cell in present {
            do throws(Failure) {
                return try await cell.member.ask { (cell) throws(Failure) in try await cell.bytes(of: ref) }
            } catch {
                problem = error
                guard error.code == "input_missing" || error.code == "cell_unreachable" else { throw error }
            }
        }
        if let absence = await absent().first { throw absence }
        throw problem
    }

    /// Stores a tensor in the cell that a new job would go to; a job elsewhere gets a copy when it is submitted.
    package func store(_ tensor: Tensor) async throws(Failure) -> TensorRef {
        let best = try await byExpectedWait(for: [])
        guard let cell = best.first else { throw await nobody() }
        return try await cell.member.ask { (cell) throws(Failure) in try await cell.store(tensor) }
    }

    package func stored(_ digest: Digest, dtype: DType, shape: [Int]) async throws(Failure) -> TensorRef {
        var first: TensorRef?
        for cell in await present() {
            let ref = try await cell.member.ask { (cell) throws(Failure) in
                try await cell.stored(digest, dtype: dtype, shape: shape)
            }
            first = first ?? ref
            do throws(Failure) {
                _ = try await cell.member.ask { (cell) throws(Failure) in try await cell.bytes(of: ref) }
                return ref
            } catch {
                guard error.code == "input_missing" || error.code == "cell_unreachable" else { throw error }
            }
        }
        if let absence = await absent().first { throw absence }
        guard let first else { throw await nobody() }
        return first
    }

    /// Cells whose store is named in one of the references come first.
    func holdersFirst(of refs: [TensorRef], _ cells: [Present]) async -> [Present] {
        let named = Set(refs.flatMap(\.locations))
        guard !named.isEmpty else { return cells }
        var holders: [Present] = []
        var others: [Present] = []
        for cell in cells {
            let own = (try? await cell.member.service.storeLocations()) ?? []
            if named.isDisjoint(with: own) { others.append(cell) } else { holders.append(cell) }
        }
        return holders + others
    }

    /// No cell at all can be asked.
    func nobody() async -> Failure {
        let reasons = await absent().map(\.message)
        var failure = Failure(
            "cell_unreachable", "no cell can be reached: \(reasons.joined(separator: "; "))", field: "cell",
            remedy: "Start one of the brokers.", retry: .sameWorker)
        failure.retryAfterMilliseconds = 2000
        return failure
    }
}
