import TestSupport
import Testing
import Wire
import Work

@Suite("Estimates")
struct ForecastTests {
    private static let stages = ["encoder", "denoiser", "decoder", "muxer"]
    /// Milliseconds a unit of work at each stage.
    private static let rates: [String: UInt64] = ["encoder": 400, "denoiser": 6000, "decoder": 2500, "muxer": 300]

    /// A cluster whose workers take exactly as long as their rates say.
    private final class Cluster {
        let bench = BrokerBench()
        var workers: [TestWorker] = []
        var running: [UInt8: (assign: Assign, begun: UInt64, ends: UInt64)] = [:]
        var finished: [String: UInt64] = [:]

        init(denoisers: UInt8) {
            var number: UInt8 = 0
            for stage in stages {
                for _ in 0..<(stage == "denoiser" ? denoisers : 1) {
                    number += 1
                    workers.append(TestWorker(number, [stage]))
                }
            }
            for worker in workers { take(bench.join(worker)) }
        }

        func submit(size: Int, tenant: String) -> String {
            var submit = video()
            submit.tenant = tenant
            for index in submit.tasks.indices { submit.tasks[index].parameters = "{\"width\":\(size)}" }
            let sends = bench.deliver(.submit(submit), from: session(200))
            take(sends)
            return sends.accepted[0].job
        }

        private func take(_ sends: [Outgoing]) {
            for outgoing in sends {
                guard case .assign(let assign) = outgoing.message,
                    let index = workers.firstIndex(where: { $0.session == outgoing.session })
                else { continue }
                let size = UInt64(assign.parameters.filter(\.isNumber)) ?? 1
                let time = (rates[assign.stage] ?? 1) * size
                running[UInt8(index)] = (assign, bench.now.milliseconds, bench.now.milliseconds + time)
            }
        }

        /// A tenth of a second: ends what ends, beats every second.
        func pass() {
            take(bench.pass(100))
            for (index, task) in running.sorted(by: { $0.key < $1.key }) where task.ends <= bench.now.milliseconds {
                running[index] = nil
                let name = task.assign.lease.task.name
                let result = [output(videoOutput[name] ?? "", Int(task.assign.lease.fence))]
                take(
                    bench.deliver(
                        task.assign.complete(result, elapsed: task.ends - task.begun), from: workers[Int(index)].session
                    ))
                if bench.job(task.assign.lease.task.job)?.state == .done {
                    finished[task.assign.lease.task.job] = bench.now.milliseconds
                }
                take(bench.beat(workers[Int(index)]))
            }
            guard bench.now.milliseconds % 1000 == 0 else { return }
            for (index, worker) in workers.enumerated() {
                guard let task = running[UInt8(index)] else {
                    take(bench.beat(worker))
                    continue
                }
                let steps = UInt32((bench.now.milliseconds - task.begun) * 50 / max(1, task.ends - task.begun))
                let since = UInt32((bench.now.milliseconds - task.begun) % max(1, (task.ends - task.begun) / 50))
                take(
                    bench.beat(worker, running: [task.assign], step: steps, totalSteps: 50, sinceProgress: since))
            }
        }
    }

    @Test(
        "once rates are known, the time to the end of every job is right within a fifth", arguments: [1, 3] as [UInt8])
    func withinAFifth(denoisers: UInt8) {
        let cluster = Cluster(denoisers: denoisers)
        // One of each, so that every rate is known.
        _ = cluster.submit(size: 1, tenant: "a")
        for _ in 0..<200 { cluster.pass() }
        #expect(cluster.finished.count == 1)
        var generator = SeededGenerator(seed: 7)
        var jobs: [String] = []
        for number in 0..<14 {
            jobs.append(
                cluster.submit(size: Int.random(in: 1...4, using: &generator), tenant: ["a", "b", "c"][number % 3]))
        }
        var told: [(job: String, at: UInt64, remaining: UInt64)] = []
        for moment in 0..<4000 where cluster.finished.count < 15 {
            if moment % 50 == 0 {
                for job in jobs where cluster.finished[job] == nil {
                    guard let status = cluster.bench.status(job), status.remainingMilliseconds > 0 else {
                        Issue.record("no estimate for \(job)")
                        continue
                    }
                    told.append((job, cluster.bench.now.milliseconds, status.remainingMilliseconds))
                }
            }
            cluster.pass()
        }
        #expect(cluster.finished.count == 15)
        var wrong = 0
        for entry in told {
            guard let end = cluster.finished[entry.job] else { continue }
            let actual = Double(end - entry.at), error = abs(Double(entry.remaining) - actual)
            // Two seconds is what beats and the cluster's tenths of a second leave open.
            if error > max(2000, 0.2 * actual) { wrong += 1 }
        }
        #expect(wrong * 20 <= told.count, "\(wrong) of \(told.count) estimates were off by more than a fifth")
    }

    @Test("places in the queue follow the order in which jobs are begun")
    func places() {
        let cluster = Cluster(denoisers: 1)
        _ = cluster.submit(size: 1, tenant: "a")
        for _ in 0..<200 { cluster.pass() }
        let jobs = (0..<12).map { cluster.submit(size: 2, tenant: $0 < 9 ? "a" : "b") }
        let waiting = jobs.filter { cluster.bench.job($0)?.state == .accepted }
        let places = Dictionary(
            uniqueKeysWithValues: waiting.map { ($0, cluster.bench.status($0)?.queuePosition ?? 99) })
        #expect(Set(places.values) == Set((0..<UInt32(waiting.count))))
        var begun: [String] = []
        for _ in 0..<3000 where begun.count < waiting.count {
            cluster.pass()
            for job in waiting where !begun.contains(job) && cluster.bench.job(job)?.state != .accepted {
                begun.append(job)
            }
        }
        #expect(begun == waiting.sorted { places[$0] ?? 0 < places[$1] ?? 0 })
    }
}
