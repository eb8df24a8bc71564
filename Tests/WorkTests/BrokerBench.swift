import Failure
import Tensor
import Testing
import Wire
import Work

/// A broker driven by hand: messages in, entries and messages out, time only when told.
final class BrokerBench {
    var broker: BrokerState
    var now = Instant(milliseconds: 1_000_000, unixMilliseconds: 1_700_000_000_000)
    var entries: [LedgerEntry] = []
    var removals: [Digest] = []
    private var sequence: UInt64 = 0

    init(_ change: (inout BrokerConfiguration) -> Void = { _ in }) {
        var configuration = BrokerConfiguration(epoch: 1)
        change(&configuration)
        let names = JobNames()
        broker = BrokerState(
            configuration: configuration, records: Records(), startedAt: now, newJob: { names.next() })
    }

    @discardableResult
    func deliver(_ message: Message, from session: SessionID, sequence given: UInt64? = nil) -> [Outgoing] {
        sequence = max(sequence + 1, given ?? 0)
        let envelope = Envelope(
            session: session, sequence: given ?? sequence, brokerEpoch: broker.configuration.epoch, message: message)
        return handle(.received(envelope))
    }

    @discardableResult
    func handle(_ event: BrokerEvent) -> [Outgoing] {
        let step = broker.handle(event, now: now)
        entries += step.entries
        removals += step.removals
        #expect(broker.isIndexInStep, "after \(event)")
        return step.sends
    }

    /// Lets time pass, with a tick every second and one at the end: a broker that misses its ticks was away itself.
    @discardableResult
    func pass(_ milliseconds: UInt64) -> [Outgoing] {
        var sends: [Outgoing] = []
        var left = milliseconds
        repeat {
            let step = min(left, 1000)
            sends += sleep(step)
            left -= step
        } while left > 0
        return sends
    }

    /// Lets time pass in which the broker does nothing; one tick when it is back.
    func sleep(_ milliseconds: UInt64) -> [Outgoing] {
        now.milliseconds += milliseconds
        now.unixMilliseconds += milliseconds
        return handle(.tick)
    }

    /// The broker dies and starts again on its entries.
    func restart(_ change: (inout BrokerConfiguration) -> Void = { _ in }) {
        var configuration = broker.configuration
        configuration.epoch += 1
        change(&configuration)
        var records = Records()
        for entry in entries { records.apply(entry) }
        let names = JobNames(prefix: "epoch\(configuration.epoch)")
        broker = BrokerState(configuration: configuration, records: records, startedAt: now, newJob: { names.next() })
    }

    /// HELLO and a first beat with every slot free.
    @discardableResult
    func join(_ worker: TestWorker) -> [Outgoing] {
        deliver(.hello(worker.hello), from: worker.session)
            + deliver(.beat(Beat(freeSlots: worker.hello.slots, running: [], storeBytes: 0)), from: worker.session)
    }

    @discardableResult
    func beat(
        _ worker: TestWorker, running: [Assign] = [], step: UInt32 = 0, totalSteps: UInt32 = 0,
        sinceProgress: UInt32 = 0, free: UInt32? = nil, assisted: UInt64 = 0
    ) -> [Outgoing] {
        let listed = running.map {
            RunningTask(
                task: $0.lease.task, fence: $0.lease.fence, step: step, totalSteps: totalSteps,
                millisecondsSinceProgress: sinceProgress)
        }
        let beat = Beat(
            freeSlots: free ?? worker.hello.slots - UInt32(running.count), running: listed, storeBytes: 0,
            assistedFence: assisted)
        return deliver(.beat(beat), from: worker.session)
    }

    /// Submits and returns the job id.
    func submit(_ submit: Submit, from client: SessionID = session(200)) -> String {
        _ = deliver(.submit(submit), from: client)
        return broker.records.order.last ?? ""
    }

    func job(_ id: String) -> JobRecord? { broker.records.jobs[id] }

    func status(_ job: String) -> JobStatus? {
        for outgoing in deliver(.query(Query(job: job)), from: session(201)) {
            if case .status(let page) = outgoing.message { return page.jobs.first }
        }
        return nil
    }
}

/// Job identifiers that count up.
final class JobNames: Sendable {
    private let prefix: String
    private let count = Counter()

    init(prefix: String = "job") { self.prefix = prefix }

    func next() -> String { "\(prefix)-\(count.next())" }
}

struct TestWorker {
    var session: SessionID
    var hello: Hello

    init(_ number: UInt8, _ stages: [String], slots: UInt32 = 1, model: String = "m1", numerics: String = "cpu") {
        session = WorkTests.session(number)
        hello = Hello(
            worker: "worker-\(number)", capabilities: stages.map { Capability(stage: $0, model: model) }, slots: slots,
            dataLocations: [], numerics: numerics, processID: UInt32(number))
    }
}

func session(_ number: UInt8) -> SessionID {
    SessionID(bytes: [UInt8](repeating: number, count: 16))!
}

func digest(_ number: Int) -> Digest {
    Digest(bytes: (0..<32).map { UInt8(truncatingIfNeeded: number >> (($0 % 8) * 8)) })!
}

func blob(_ number: Int) -> TensorRef {
    TensorRef(digest: digest(number), dtype: .float32, shape: [2, 3], locations: [.tcp(address: "127.0.0.1", port: 9)])
}

func output(_ name: String, _ number: Int) -> NamedRef { NamedRef(name: name, ref: blob(number)) }

/// One task alone.
func single(
    stage: String = "encoder", key: String = "", priority: Int32 = 0, parameters: String = "{}", affinity: String = ""
) -> Submit {
    Submit(
        idempotencyKey: key, requestDigest: digest(7), tenant: "t", priority: priority, specification: "{}",
        tasks: [
            TaskSpecification(
                name: "only", stage: stage, model: "m1", parameters: parameters, inputs: [], durableOutputs: true,
                affinity: affinity)
        ])
}

/// encode → denoise → decode (frames in the decoder's memory) → mux.
func video(key: String = "", priority: Int32 = 0) -> Submit {
    func task(
        _ name: String, _ stage: String, from producer: String? = nil, _ output: String = "", durable: Bool = true
    )
        -> TaskSpecification
    {
        let inputs = producer.map { [TaskInput(name: output, source: .task(name: $0, output: output))] } ?? []
        return TaskSpecification(
            name: name, stage: stage, model: "m1", parameters: "{\"width\":4}", inputs: inputs, durableOutputs: durable)
    }
    return Submit(
        idempotencyKey: key, requestDigest: digest(7), tenant: "t", priority: priority,
        specification: "{\"prompt\":\"x\"}",
        tasks: [
            task("encode", "encoder"), task("denoise", "denoiser", from: "encode", "prompt_embeds"),
            task("decode", "decoder", from: "denoise", "latents", durable: false),
            task("mux", "muxer", from: "decode", "frames"),
        ])
}

/// What each task of `video` delivers.
let videoOutput = ["encode": "prompt_embeds", "denoise": "latents", "decode": "frames", "mux": "video"]

extension [Outgoing] {
    var assigns: [Assign] { compactMap { if case .assign(let assign) = $0.message { assign } else { nil } } }
    var events: [JobStatus] { compactMap { if case .event(let status) = $0.message { status } else { nil } } }
    var leaseLosts: [Lease] { compactMap { if case .leaseLost(let lease) = $0.message { lease } else { nil } } }
    var committed: [Lease] { compactMap { if case .committed(let lease) = $0.message { lease } else { nil } } }
    var revokes: [Revoke] { compactMap { if case .revoke(let revoke) = $0.message { revoke } else { nil } } }
    var errors: [ErrorReply] { compactMap { if case .error(let error) = $0.message { error } else { nil } } }
    var accepted: [Accepted] { compactMap { if case .accepted(let accepted) = $0.message { accepted } else { nil } } }
    var acknowledgements: [BeatAcknowledgement] {
        compactMap { if case .beatAcknowledgement(let acknowledgement) = $0.message { acknowledgement } else { nil } }
    }

    func assign(to session: SessionID) -> Assign? { filter { $0.session == session }.assigns.first }
}

extension Assign {
    func complete(_ outputs: [NamedRef], elapsed: UInt64 = 1000) -> Message {
        .complete(Complete(lease: lease, outputs: outputs, elapsedMilliseconds: elapsed, notes: []))
    }

    func fail(_ retry: Failure.Retry, code: String = "broken", missing: [String] = []) -> Message {
        .fail(Fail(lease: lease, code: code, message: "it broke", retry: retry, missingInputs: missing))
    }
}
