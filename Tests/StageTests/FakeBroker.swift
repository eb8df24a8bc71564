import Bus
import Failure
import Runtime
import Tensor
import Wire

/// The broker's side of the control plane, played by a test: it answers HELLO and BEAT by itself, keeps every message
/// for the test to look at, and sends what the test says.
actor FakeBroker {
    static let beatMilliseconds: UInt32 = 20

    nonisolated let runDirectory: RunDirectory
    private let cell: String
    private let loop: BusLoop
    private let server: ControlServer
    private let dataServer: DataServer
    nonisolated let store: BlobStore
    private let fullStore: FullStore
    /// Reads what workers serve.
    private let reader: DataClient
    nonisolated let storeLocation: Location
    private var peer: PeerID?
    private var received: [Message] = []
    private var cursor = 0
    private var waiting: CheckedContinuation<Void, Never>?
    /// Goes out with the next BEAT_ACK.
    private var releases: [Digest] = []
    private var isDraining = false

    /// Starts on `broker.sock` in the run directory; a later broker of the same test needs a higher epoch.
    ///
    /// - Parameter refusals: how often the store says that it is full before it takes anything.
    init(
        runDirectory: RunDirectory, epoch: UInt64 = 1, socket name: String = "broker.sock", cell: String = "",
        refusals: Int = 0
    ) async throws {
        self.runDirectory = runDirectory
        self.cell = cell
        loop = try BusLoop(name: "fake-broker-\(epoch)")
        let session = SessionID.random()
        server = ControlServer(loop: loop, session: session, epoch: epoch)
        _ = try await server.bind(.ipc(path: runDirectory.socketPath(name)), insecure: false)
        store = try BlobStore(directory: runDirectory.path + "/blobs-\(epoch)")
        fullStore = FullStore(store: store, refusals: refusals)
        dataServer = DataServer(loop: loop, session: session, source: store, sink: fullStore, budgetBytes: 64 << 20)
        let socket = "store-\(epoch).sock"
        _ = try await dataServer.bind(.ipc(path: runDirectory.socketPath(socket)), insecure: false)
        storeLocation = .ipc(host: runDirectory.hostIdentity, socket: socket)
        reader = DataClient(loop: loop, session: session, runDirectory: runDirectory)
        let incoming = server.incoming
        Task { for await (peer, envelope) in incoming { await self.receive(envelope, from: peer) } }
    }

    func stop() async {
        await server.close()
        await dataServer.close()
        await reader.close()
        await loop.shutdown()
    }

    private func receive(_ envelope: Envelope, from peer: PeerID) async {
        self.peer = peer
        switch envelope.message {
        case .hello:
            let welcome = Welcome(
                beatMilliseconds: Self.beatMilliseconds, leaseMilliseconds: 30_000, storeLocations: [storeLocation],
                cell: cell)
            await server.send(.welcome(welcome), to: peer, inReplyTo: envelope.sequence)
        case .beat:
            let acknowledgement = BeatAcknowledgement(
                sequence: envelope.sequence, drain: isDraining, releases: releases)
            releases = []
            await server.send(.beatAcknowledgement(acknowledgement), to: peer, inReplyTo: envelope.sequence)
        case .clusterQuery:
            let status = ClusterStatus(workers: [], queuedJobs: 0, runningJobs: 0)
            await server.send(.cluster(status), to: peer, inReplyTo: envelope.sequence)
        default: break
        }
        received.append(envelope.message)
        waiting?.resume()
        waiting = nil
    }

    /// The next message, after the one found last, for which `match` gives a value.
    func next<Value: Sendable>(_ match: @Sendable (Message) -> Value?) async -> Value {
        while true {
            while cursor < received.count {
                cursor += 1
                if let value = match(received[cursor - 1]) { return value }
            }
            await withCheckedContinuation { waiting = $0 }
        }
    }

    func send(_ message: Message) async throws {
        guard let peer else { throw Failure("no_worker", "no worker has said HELLO") }
        await server.send(message, to: peer, inReplyTo: 0)
    }

    /// The worker is told with the next BEAT_ACK.
    func drain() { isDraining = true }

    func release(_ digest: Digest) { releases.append(digest) }

    // MARK: Shorthands

    func hello() async -> Hello {
        await next { if case .hello(let hello) = $0 { hello } else { nil } }
    }

    func complete() async -> Complete {
        await next { if case .complete(let complete) = $0 { complete } else { nil } }
    }

    /// The next COMPLETE, which is committed.
    func commit() async throws -> Complete {
        let complete = await complete()
        try await send(.committed(complete.lease))
        return complete
    }

    /// The next FAIL, which is answered as the broker answers it.
    func fail() async throws -> Fail {
        let fail = await next { message -> Fail? in if case .fail(let fail) = message { fail } else { nil } }
        try await send(.leaseLost(fail.lease))
        return fail
    }

    func checkpoint() async -> CheckpointReport {
        await next { if case .checkpoint(let report) = $0 { report } else { nil } }
    }

    func beat(where matches: @escaping @Sendable (Beat) -> Bool) async -> Beat {
        await next { if case .beat(let beat) = $0, matches(beat) { beat } else { nil } }
    }

    /// Sends a task of the stage `test`. The tensors are put into the store first.
    @discardableResult
    func assign(
        fence: UInt64, parameters: String = "{}", inputs: [(String, Tensor)] = [], durable: Bool = true,
        checkpoint: (step: UInt32, ref: TensorRef)? = nil, earlier: (step: UInt32, ref: TensorRef)? = nil
    ) async throws -> Lease {
        let lease = Lease(task: TaskID(job: "job", name: "task-\(fence)"), fence: fence)
        var refs: [NamedRef] = []
        for (name, tensor) in inputs { refs.append(NamedRef(name: name, ref: try await put(tensor))) }
        try await send(
            .assign(
                Assign(
                    lease: lease, attempt: 1, stage: "test", model: "", parameters: parameters, inputs: refs,
                    durableOutputs: durable, checkpoint: checkpoint?.ref, checkpointStep: checkpoint?.step ?? 0,
                    earlierCheckpoint: earlier?.ref, earlierCheckpointStep: earlier?.step ?? 0,
                    leaseMilliseconds: 30_000)))
        return lease
    }

    /// The numbers of a float32 tensor, wherever it lies.
    func value(of ref: TensorRef) async throws -> [Float] {
        try await reader.fetch(ref, timeout: .seconds(10)).floats()
    }

    func put(_ tensor: Tensor) async throws -> TensorRef {
        try await reader.store(tensor, at: [storeLocation], timeout: .seconds(20))
    }

    /// How often the store has still to say that it is full.
    func refusalsLeft() async -> Int { await fullStore.refusals }
}

/// A store whose disk is full for a while.
private actor FullStore: BlobSink {
    private let store: BlobStore
    private(set) var refusals: Int

    init(store: BlobStore, refusals: Int) {
        self.store = store
        self.refusals = refusals
    }

    func begin(_ digest: Digest, size: UInt64) async throws(Failure) -> (any BlobWriter)? {
        guard refusals == 0 else {
            refusals -= 1
            throw Failure("store_full", "no room for \(size) bytes", retry: .sameWorker)
        }
        return try await store.begin(digest, size: size)
    }
}
