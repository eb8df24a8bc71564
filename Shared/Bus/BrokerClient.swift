package import Failure
package import Runtime
package import Tensor
package import Wire

/// What a gateway or a command line does with a broker: jobs, their states, and blobs in its store.
///
/// Survives restarts of the broker: requests are sent again, watches resumed. Close it, or shut the loop down.
package struct BrokerClient: Sendable {
    private let session: BrokerSession
    private let data: DataClient

    /// Connects and learns where the store is.
    ///
    /// - Throws: `broker_unreachable` or `key_refused` after `timeout`.
    package init(
        loop: BusLoop, endpoint: Endpoint, runDirectory: RunDirectory, credentials: Credentials? = nil,
        timeout: Duration = .seconds(10)
    ) async throws(Failure) {
        let identity = SessionID.random()
        let control = try ControlClient(loop: loop, endpoint: endpoint, session: identity, credentials: credentials)
        session = BrokerSession(control: control, timeout: timeout)
        let access = credentials.map { DataAccess(identity: $0.identity, broker: control, timeout: timeout) }
        data = DataClient(loop: loop, session: identity, runDirectory: runDirectory, access: access)
        do throws(Failure) {
            try await session.start()
        } catch {
            await session.close()
            throw error
        }
    }

    /// Hands a job in; the same idempotency key with the same request gets the same answer.
    package func submit(_ submit: Submit) async throws(Failure) -> Accepted {
        let reply = try await session.request(.submit(submit))
        if case .accepted(let accepted) = reply { return accepted }
        throw BrokerSession.unexpected(reply)
    }

    /// - Throws: `job_not_found`.
    package func status(job: String) async throws(Failure) -> JobStatus {
        let reply = try await session.request(.query(Query(job: job)))
        guard case .status(let page) = reply else { throw BrokerSession.unexpected(reply) }
        guard let status = page.jobs.first else {
            throw Failure("job_not_found", "there is no job \(job)", field: "job")
        }
        return status
    }

    /// Jobs older than `before` (empty: the newest) and accepted before a time (0: any), newest first.
    package func list(
        before: String = "", limit: Int = Limits.jobsPerPage, beforeUnixMilliseconds: UInt64 = 0
    ) async throws(Failure) -> StatusPage {
        let bounded = UInt32(min(max(limit, 1), Limits.jobsPerPage))
        let query = Query(job: "", before: before, limit: bounded, beforeUnixMilliseconds: beforeUnixMilliseconds)
        let reply = try await session.request(.query(query))
        if case .status(let page) = reply { return page }
        throw BrokerSession.unexpected(reply)
    }

    /// The job's states as they change, beginning with the present one; a slow reader gets the newest. Ends after a
    /// terminal state; throws `job_not_found`, or `broker_unreachable` only when the client is closed meanwhile.
    package func watch(job: String) -> AsyncThrowingStream<JobStatus, any Error> {
        AsyncThrowingStream(bufferingPolicy: .bufferingNewest(16)) { continuation in
            let watching = Task { await session.watch(job, continuation) }
            continuation.onTermination = { _ in
                watching.cancel()
                Task { await session.forget(job, continuation) }
            }
        }
    }

    /// Small pictures of what the job's running task is about to become, as long as somebody reads them; a slow reader
    /// gets the newest. Does not end by itself; throws `job_not_found`, or `bus_closed` when the client is closed.
    package func previews(job: String) -> AsyncThrowingStream<Preview, any Error> {
        AsyncThrowingStream(bufferingPolicy: .bufferingNewest(2)) { continuation in
            let watching = Task { await session.watchPreviews(job, continuation) }
            continuation.onTermination = { _ in
                watching.cancel()
                Task { await session.forgetPreviews(job, continuation) }
            }
        }
    }

    package func cancel(job: String) async throws(Failure) -> CancelOutcome {
        let reply = try await session.request(.cancel(job: job))
        if case .cancelOutcome(let outcome) = reply { return outcome }
        throw BrokerSession.unexpected(reply)
    }

    /// - Parameter patience: how long to wait for the answer; nil = as long as for any.
    package func cluster(patience: Duration? = nil) async throws(Failure) -> ClusterStatus {
        let reply = try await session.request(.clusterQuery, patience: patience)
        if case .cluster(let status) = reply { return status }
        throw BrokerSession.unexpected(reply)
    }

    /// Empties workers, or lets the broker take no new jobs; says who drains because of it.
    ///
    /// - Throws: `worker_not_found`.
    package func drain(_ drain: Drain) async throws(Failure) -> Draining {
        let reply = try await session.request(.drain(drain))
        if case .draining(let draining) = reply { return draining }
        throw BrokerSession.unexpected(reply)
    }

    /// Jobs that failed or died, newest first and older than `before`; with a `job` that one and its evidence.
    ///
    /// - Throws: `job_not_found`, `job_not_dead`.
    package func dead(_ query: DeadQuery) async throws(Failure) -> DeadPage {
        let reply = try await session.request(.deadQuery(query))
        if case .deadPage(let page) = reply { return page }
        throw BrokerSession.unexpected(reply)
    }

    /// Makes a new job of a dead one that keeps what was done.
    ///
    /// - Throws: `job_not_found`, `job_not_dead`, and what SUBMIT is refused with.
    package func retry(_ retry: DeadRetry) async throws(Failure) -> Accepted {
        let reply = try await session.request(.deadRetry(retry))
        if case .accepted(let accepted) = reply { return accepted }
        throw BrokerSession.unexpected(reply)
    }

    /// Puts a tensor into the broker's store; the reference can be an input of a job.
    package func upload(_ tensor: Tensor, timeout: Duration = .seconds(60)) async throws(Failure) -> TensorRef {
        try await data.store(tensor, at: await session.storeLocations, timeout: timeout)
    }

    package func download(_ ref: TensorRef, timeout: Duration = .seconds(60)) async throws(Failure) -> Tensor {
        try await data.fetch(ref, timeout: timeout)
    }

    /// A reference to a blob that the store is said to hold; fetching it tells whether it does.
    package func stored(_ digest: Digest, dtype: DType, shape: [Int]) async -> TensorRef {
        TensorRef(digest: digest, dtype: dtype, shape: shape, locations: await session.storeLocations)
    }

    /// Where the broker's store is.
    package var storeLocations: [Location] {
        get async { await session.storeLocations }
    }

    /// The broker's name among several, as it said at the newest connection.
    package var cell: String {
        get async { await session.cell }
    }

    /// Whether the broker is connected at the moment.
    package var isConnected: Bool {
        get async { await session.isConnected }
    }

    package func close() async {
        await session.close()
        await data.close()
    }
}
