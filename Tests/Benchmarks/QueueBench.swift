import Foundation
import Synchronization
import Tensor
import Wire
import Work

/// What the broker's decisions cost with a long queue: the state machine itself, without sockets and disk.
struct QueueBench {
    let jobs: Int
    let tenants: Int

    /// 64 workers of a cluster that denoises most of the time.
    private static let stages = [("text-encoder", 4), ("denoiser", 48), ("vae-decoder", 8), ("video-muxer", 4)]
    private static let outputs = [
        "encode": "prompt_embeds", "denoise": "latents", "decode": "frames", "mux": "video",
    ]
    private static let client = session(200, 0)

    func run() {
        let cluster = BenchCluster(limit: jobs + 64)
        for (stage, count) in Self.stages {
            for number in 0..<count { cluster.join(Self.session(UInt8(cluster.workers.count), 1), stage, number) }
        }
        let stages = Self.stages.map { "\($0.1) \($0.0)" }.joined(separator: ", ")
        print("\(jobs) queued jobs of \(tenants) tenants; workers: \(stages)")
        // One job through every stage, so that all rates are known.
        cluster.send(.submit(job(0)), from: Self.client, as: nil)
        cluster.serve(40, Self.outputs, as: nil)
        let empty = Memory.residentBytes
        for number in 1...jobs {
            let name = number + 1000 > jobs ? "submit, the last 1000" : number <= 1000 ? "submit, the first 1000" : nil
            cluster.send(.submit(job(number)), from: Self.client, as: name)
            if number % 100 == 0 { cluster.pass(100, as: nil) }
        }
        let full = Memory.residentBytes
        cluster.serve(1000, Self.outputs, as: "event of a worker")
        for _ in 0..<100 { cluster.pass(100, as: "tick") }
        for _ in 0..<20 {
            cluster.pass(300, as: nil)
            var wanted = job(1)
            wanted.deadlineMilliseconds = 3_600_000
            cluster.send(.submit(wanted), from: Self.client, as: "submit with a deadline, and a forecast")
            cluster.send(.submit(wanted), from: Self.client, as: "submit with a deadline")
            cluster.pass(300, as: nil)
            let last = cluster.accepted[cluster.accepted.count - 1]
            cluster.send(.query(Query(job: last)), from: Self.client, as: "status of one job, and a forecast")
            cluster.send(.query(Query(job: last)), from: Self.client, as: "status of one job")
            cluster.send(.query(Query(job: "", limit: 16)), from: Self.client, as: "status of a page of 16")
        }
        for (number, job) in cluster.accepted.suffix(1000).enumerated() {
            let watcher = Self.session(UInt8(number % 250), 2)
            cluster.send(.watch(Watch(job: job, revision: 0)), from: watcher, as: nil)
        }
        cluster.serve(1000, Self.outputs, as: "event of a worker, 1000 jobs watched")
        report(cluster, bytes: full > empty ? (full - empty) / jobs : 0)
    }

    private func report(_ cluster: BenchCluster, bytes: Int) {
        print("case".padding(toLength: 56, withPad: " ", startingAt: 0) + "    count  median ms    99 % ms     max ms")
        for (name, times) in cluster.seconds.sorted(by: { $0.key < $1.key }) {
            let sorted = times.sorted()
            func cell(_ part: Double) -> String {
                String(format: " %10.3f", sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))] * 1e3)
            }
            print(
                name.padding(toLength: 56, withPad: " ", startingAt: 0) + String(format: " %8d", sorted.count)
                    + cell(0.5) + cell(0.99) + cell(1))
        }
        print("memory of a queued job: \(bytes) bytes")
    }

    private static func session(_ number: UInt8, _ kind: UInt8) -> SessionID {
        SessionID(bytes: [kind] + [UInt8](repeating: number, count: 15)) ?? .random()
    }

    /// encode → denoise → decode → mux as `JobGraph` makes it.
    private func job(_ number: Int) -> Submit {
        let parameters = """
            {"guidanceScale":6,"height":480,"numFrames":\([9, 25, 49][number % 3]),"numInferenceSteps":50,"seed":\(number),\
            "scheduler":"ddim","width":720}
            """
        func task(_ name: String, _ stage: String, from producer: String?) -> TaskSpecification {
            let inputs = producer.map { name in
                let output = Self.outputs[name] ?? ""
                return [TaskInput(name: output, source: .task(name: name, output: output))]
            }
            return TaskSpecification(
                name: name, stage: stage, model: String(repeating: "ab", count: 32), parameters: parameters,
                inputs: inputs ?? [], durableOutputs: name != "decode")
        }
        let prompt = "A detailed wooden toy ship glides over a plush blue carpet that mimics the waves of the sea."
        return Submit(
            idempotencyKey: "", requestDigest: Digest.of([UInt8(truncatingIfNeeded: number)]),
            tenant: "tenant-\(number % tenants)", priority: 0, specification: "{\"prompt\":\"\(prompt)\"}",
            tasks: [
                task("encode", "text-encoder", from: nil), task("denoise", "denoiser", from: "encode"),
                task("decode", "vae-decoder", from: "denoise"), task("mux", "video-muxer", from: "decode"),
            ])
    }
}

/// A broker and workers that take whatever they are given.
private final class BenchCluster {
    private final class Names: Sendable {
        private let value = Mutex(0)

        func next() -> String {
            let text = String(
                value.withLock {
                    $0 += 1; return $0
                }, radix: 16)
            return "video_" + String(repeating: "0", count: 32 - text.count) + text
        }
    }

    private var broker: BrokerState
    private var now = Instant(milliseconds: 1_000_000, unixMilliseconds: 1_700_000_000_000)
    private var sequence: UInt64 = 0
    private var running: [(worker: Int, assign: Assign)] = []
    private(set) var workers: [SessionID] = []
    private(set) var seconds: [String: [Double]] = [:]
    private(set) var accepted: [String] = []

    /// - Parameter limit: unfinished jobs that are taken.
    init(limit: Int) {
        var configuration = BrokerConfiguration(epoch: 1)
        configuration.unfinishedJobLimit = limit
        configuration.tenantJobLimit = limit
        let names = Names()
        broker = BrokerState(
            configuration: configuration, records: Records(), startedAt: now, newJob: { names.next() })
    }

    private static var processorSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    func join(_ session: SessionID, _ stage: String, _ number: Int) {
        workers.append(session)
        let hello = Hello(
            worker: "\(stage)-\(number)",
            capabilities: [Capability(stage: stage, model: String(repeating: "ab", count: 32))], slots: 1,
            dataLocations: [], numerics: "bench", processID: UInt32(workers.count))
        send(.hello(hello), from: session, as: nil)
        beat(workers.count - 1, as: nil)
    }

    /// Time passes, and everybody beats.
    func pass(_ milliseconds: UInt64, as name: String?) {
        now.milliseconds += milliseconds
        now.unixMilliseconds += milliseconds
        for worker in workers.indices { beat(worker, as: nil) }
        handle(.tick, as: name)
    }

    /// Ends that many tasks, the oldest first, a few milliseconds apart.
    func serve(_ count: Int, _ outputs: [String: String], as name: String?) {
        for number in 0..<count {
            guard !running.isEmpty else { return }
            let (worker, assign) = running.removeFirst()
            now.milliseconds += 5
            now.unixMilliseconds += 5
            let ref = TensorRef(
                digest: Digest.of(Array("\(assign.lease.fence)".utf8)), dtype: .float32, shape: [1, 226, 4096],
                locations: [.tcp(address: "10.0.0.7", port: 7711)])
            let complete = Complete(
                lease: assign.lease, outputs: [NamedRef(name: outputs[assign.lease.task.name] ?? "", ref: ref)],
                elapsedMilliseconds: 5000, notes: [])
            send(.complete(complete), from: workers[worker], as: name)
            beat(worker, as: name)
            if number % 20 == 0 { handle(.tick, as: nil) }
            if number % 200 == 0 { for worker in workers.indices { beat(worker, as: nil) } }
        }
    }

    private func beat(_ worker: Int, as name: String?) {
        let tasks = running.filter { $0.worker == worker }.map { task in
            RunningTask(
                task: task.assign.lease.task, fence: task.assign.lease.fence, step: 0, totalSteps: 50,
                millisecondsSinceProgress: 0)
        }
        let beat = Beat(freeSlots: tasks.isEmpty ? 1 : 0, running: tasks, storeBytes: 0)
        send(.beat(beat), from: workers[worker], as: name)
    }

    func send(_ message: Message, from session: SessionID, as name: String?) {
        sequence += 1
        handle(
            .received(
                Envelope(
                    session: session, sequence: sequence, brokerEpoch: broker.configuration.epoch, message: message)),
            as: name)
    }

    /// Handles one event and notes its time under `name`: the thread's own, whatever else the machine does.
    private func handle(_ event: BrokerEvent, as name: String?) {
        let start = Self.processorSeconds
        let step = broker.handle(event, now: now)
        let elapsed = Self.processorSeconds - start
        if let name {
            let full = step.entries.contains { $0.kind == "lease_granted" } ? "\(name), with a dispatch" : name
            seconds[full, default: []].append(elapsed)
        }
        for outgoing in step.sends {
            if case .assign(let assign) = outgoing.message, let worker = workers.firstIndex(of: outgoing.session) {
                running.append((worker, assign))
            }
            if case .accepted(let answer) = outgoing.message { accepted.append(answer.job) }
        }
    }
}
