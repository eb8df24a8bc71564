package import Bus
package import Failure
package import Runtime
package import Tensor
package import Wire

/// The broker behind the bus. Connects at the first use, so that a gateway can start before its broker.
package actor BusJobService: CellService {
    /// How long a broker that is there may take to say so.
    private static let checkPatience = Duration.seconds(1)

    private let loop: BusLoop
    private let endpoint: Endpoint
    private let runDirectory: RunDirectory
    private let credentials: Credentials?
    private let timeout: Duration
    private var connecting: Task<Result<BrokerClient, Failure>, Never>?

    /// - Parameters:
    ///   - credentials: the gateway's key and the broker's; nil = ipc, or TCP without protection.
    ///   - timeout: how long an answer may take: by default short enough for a health check and long enough for
    ///     a broker that is being restarted.
    package init(
        loop: BusLoop, endpoint: Endpoint, runDirectory: RunDirectory, credentials: Credentials? = nil,
        timeout: Duration = .seconds(5)
    ) {
        self.credentials = credentials
        self.loop = loop
        self.endpoint = endpoint
        self.runDirectory = runDirectory
        self.timeout = timeout
    }

    private func client() async throws(Failure) -> BrokerClient {
        if let connecting { return try await connecting.value.get() }
        let task = Task<Result<BrokerClient, Failure>, Never> {
            [loop, endpoint, runDirectory, credentials, timeout] in
            do throws(Failure) {
                return .success(
                    try await BrokerClient(
                        loop: loop, endpoint: endpoint, runDirectory: runDirectory, credentials: credentials,
                        timeout: timeout))
            } catch {
                return .failure(error)
            }
        }
        connecting = task
        let result = await task.value
        if case .failure = result, connecting == task { connecting = nil }
        return try result.get()
    }

    package func submit(_ submit: Submit) async throws(Failure) -> Accepted { try await client().submit(submit) }

    package func status(job: String) async throws(Failure) -> JobStatus { try await client().status(job: job) }

    package func list(before: String, limit: Int) async throws(Failure) -> StatusPage {
        try await client().list(before: before, limit: limit)
    }

    package func list(before: String, acceptedBefore: UInt64, limit: Int) async throws(Failure) -> StatusPage {
        try await client().list(before: before, limit: limit, beforeUnixMilliseconds: acceptedBefore)
    }

    package func watch(job: String) async throws(Failure) -> AsyncThrowingStream<JobStatus, any Error> {
        try await client().watch(job: job)
    }

    package func previews(job: String) async throws(Failure) -> AsyncThrowingStream<Preview, any Error> {
        try await client().previews(job: job)
    }

    package func cancel(job: String) async throws(Failure) -> CancelOutcome { try await client().cancel(job: job) }

    package func cluster() async throws(Failure) -> ClusterStatus { try await client().cluster() }

    package func check() async throws(Failure) -> ClusterStatus {
        try await client().cluster(patience: Self.checkPatience)
    }

    package func cell() async throws(Failure) -> String { await (try client()).cell }

    package func storeLocations() async throws(Failure) -> [Location] { await (try client()).storeLocations }

    package var isConnected: Bool {
        get async {
            guard let client = try? await client() else { return false }
            return await client.isConnected
        }
    }

    package func drain(_ drain: Drain) async throws(Failure) -> Draining { try await client().drain(drain) }

    package func dead(_ query: DeadQuery) async throws(Failure) -> DeadPage { try await client().dead(query) }

    package func retry(_ retry: DeadRetry) async throws(Failure) -> Accepted { try await client().retry(retry) }

    package func bytes(of ref: TensorRef) async throws(Failure) -> [UInt8] {
        let tensor = try await client().download(ref)
        return tensor.withUnsafeBytes { Array($0) }
    }

    package func store(_ tensor: Tensor) async throws(Failure) -> TensorRef { try await client().upload(tensor) }

    package func stored(_ digest: Digest, dtype: DType, shape: [Int]) async throws(Failure) -> TensorRef {
        await (try client()).stored(digest, dtype: dtype, shape: shape)
    }

    /// Closes the connection, if there is one.
    package func close() async {
        guard let connecting, case .success(let client) = await connecting.value else { return }
        await client.close()
    }
}
