import Bus
import BrokerService
import Wire
import Work

/// A worker whose stage is the test: it connects, greets, beats and reports like a real one, and computes when told to.
actor FakeWorker {
    /// Tasks as the broker assigns them.
    nonisolated let starts: AsyncStream<Assign>
    private let startFeed: AsyncStream<Assign>.Continuation
    /// Leases the broker has confirmed or taken away.
    nonisolated let ends: AsyncStream<WorkerEffect>
    private let endFeed: AsyncStream<WorkerEffect>.Continuation

    private let client: ControlClient
    private var state: WorkerState
    private var isFrozen = false
    private var tasks: [Task<Void, Never>] = []

    init(loop: BusLoop, endpoint: Endpoint, name: String, stages: [String], slots: UInt32 = 1) throws {
        (starts, startFeed) = AsyncStream.makeStream()
        (ends, endFeed) = AsyncStream.makeStream()
        client = try ControlClient(loop: loop, endpoint: endpoint, session: .random())
        let hello = Hello(
            worker: name, capabilities: stages.map { Capability(stage: $0, model: "m1") }, slots: slots,
            dataLocations: [], numerics: "test", processID: 1)
        state = WorkerState(hello: hello)
    }

    func begin() {
        tasks = [
            Task {
                for await event in client.events {
                    switch event {
                    case .connected: await handle(.connected)
                    case .disconnected: await handle(.disconnected)
                    case .received(let envelope): await handle(.received(envelope))
                    }
                }
            },
            Task {
                while !Task.isCancelled {
                    await handle(.tick)
                    try? await Task.sleep(for: .milliseconds(20))
                }
            },
        ]
    }

    /// Neither beats nor answers from now on, like a stopped process.
    func freeze() { isFrozen = true }

    func finish(_ assign: Assign, outputs: [NamedRef] = []) async {
        await handle(.finished(assign.lease, outputs: outputs, elapsedMilliseconds: 3, notes: ["done by a test"]))
    }

    func leave() async { await handle(.goodbye) }

    func end() async {
        for task in tasks { task.cancel() }
        await client.close()
        startFeed.finish()
        endFeed.finish()
    }

    private func handle(_ event: WorkerEvent) async {
        guard !isFrozen else { return }
        for effect in state.handle(event, now: BootClock.now()) {
            switch effect {
            case .send(let message, let inReplyTo): await client.send(message, inReplyTo: inReplyTo)
            case .brokerEpoch(let epoch): await client.setBrokerEpoch(epoch)
            case .start(let assign): startFeed.yield(assign)
            case .committed: endFeed.yield(effect)
            case .cancel(let lease, _):
                endFeed.yield(effect)
                await handle(.stopped(lease))
            default: break
            }
        }
    }
}
