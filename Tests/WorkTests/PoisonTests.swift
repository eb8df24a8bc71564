import Failure
import Testing
import Wire
import Work

@Suite("Poison, quarantine and evidence")
struct PoisonTests {
    let client = session(200)

    /// A worker of `number` that takes whatever is ready and is never heard of again.
    private func crash(_ bench: BrokerBench, _ number: UInt8, slots: UInt32 = 1, step: UInt32 = 0) throws -> Assign {
        let worker = TestWorker(number, ["encoder"], slots: slots)
        let assign = try #require(bench.join(worker).assigns.first)
        bench.beat(worker, running: [assign], step: step, totalSteps: 50)
        bench.pass(15_000)
        return assign
    }

    private func dead(_ bench: BrokerBench, _ job: String) -> DeadJob? {
        for outgoing in bench.deliver(.deadQuery(DeadQuery(job: job)), from: client) {
            if case .deadPage(let page) = outgoing.message { return page.jobs.first }
        }
        return nil
    }

    @Test("after two workers died of it a task runs only on an idle worker, and nothing else runs beside it")
    func quarantine() throws {
        let bench = BrokerBench()
        let poison = bench.submit(single(priority: 1))
        _ = try crash(bench, 1)
        _ = try crash(bench, 2)
        let healthy = bench.submit(single())
        // Busy with one of two slots: not idle, so the quarantined job may not come. It has one of them kept free.
        let kept = TestWorker(3, ["encoder"], slots: 2)
        let wide = TestWorker(4, ["encoder"], slots: 2)
        bench.deliver(.hello(kept.hello), from: kept.session)
        #expect(bench.beat(kept, free: 1).assigns.isEmpty)
        bench.deliver(.hello(wide.hello), from: wide.session)
        #expect(bench.beat(wide, free: 1).assigns.map(\.lease.task.job) == [healthy])
        let idle = TestWorker(5, ["encoder"], slots: 2)
        let second = bench.join(idle).assigns
        #expect(second.map(\.lease.task.job) == [poison])
        let sends = bench.deliver(.submit(single(priority: 9)), from: client)
        #expect(sends.assign(to: kept.session) != nil)
        #expect(bench.beat(idle, running: second, free: 1).assigns.isEmpty)
    }

    @Test("a quarantined task does not wait for ever for a worker whose slots are never all free by chance")
    func reservation() throws {
        let bench = BrokerBench()
        let wide = TestWorker(9, ["encoder"], slots: 2)
        for _ in 0..<2 { _ = bench.submit(single()) }
        let running = bench.join(wide).assigns
        #expect(running.count == 2)
        let poison = bench.submit(single())
        for number in 1...2 as ClosedRange<UInt8> {
            let victim = TestWorker(number, ["encoder"])
            #expect(bench.join(victim).assigns.map(\.lease.task.job) == [poison])
            var successor = TestWorker(number + 100, ["nothing"])
            successor.hello.worker = victim.hello.worker
            successor.hello.predecessorProcessID = victim.hello.processID
            bench.deliver(.hello(successor.hello), from: successor.session)
        }
        for _ in 0..<4 { _ = bench.submit(single()) }
        bench.deliver(running[0].complete([]), from: wide.session)
        #expect(bench.beat(wide, running: [running[1]]).assigns.isEmpty, "kept free")
        bench.deliver(running[1].complete([]), from: wide.session)
        #expect(bench.beat(wide).assigns.map(\.lease.task.job) == [poison])
    }

    @Test("a task stays in quarantine however often workers give it up afterwards")
    func longQuarantine() throws {
        let bench = BrokerBench()
        let poison = bench.submit(single())
        _ = try crash(bench, 1)
        _ = try crash(bench, 2)
        let worker = TestWorker(3, ["encoder"])
        var assign = try #require(bench.join(worker).assigns.first)
        for _ in 0..<(2 * Limits.incidents) {
            bench.beat(worker, running: [assign])
            bench.beat(worker)
            assign = try #require(bench.beat(worker).assigns.first, "two beats without it: given up")
        }
        let task = try #require(bench.job(poison)?.tasks.first)
        #expect(task.isQuarantined)
        #expect(task.incidents?.count == Limits.incidents)
    }

    @Test("a stage runs one quarantined task at a time, so that poison never takes all its workers at once")
    func oneAtATime() throws {
        let bench = BrokerBench()
        let jobs = [bench.submit(single()), bench.submit(single())]
        for number in 1...2 as ClosedRange<UInt8> {
            #expect(bench.join(TestWorker(number, ["encoder"], slots: 2)).assigns.count == 2)
            bench.pass(15_000)
        }
        #expect(jobs.allSatisfy { bench.job($0)?.tasks[0].isQuarantined == true })
        let third = bench.join(TestWorker(5, ["encoder"])).assigns
        #expect(third.count == 1)
        #expect(bench.join(TestWorker(6, ["encoder"])).assigns.isEmpty)
    }

    @Test("a job killed by poison is DEAD with who died of it, where, when and how")
    func evidence() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let first = try crash(bench, 1, step: 7)
        let begun = bench.now.unixMilliseconds
        let second = TestWorker(2, ["encoder"])
        let assign = try #require(bench.join(second).assigns.first)
        bench.beat(second, running: [assign], step: 8, totalSteps: 50)
        bench.pass(100)
        var successor = TestWorker(3, ["encoder"])
        successor.hello.worker = second.hello.worker
        successor.hello.predecessorProcessID = second.hello.processID
        successor.hello.predecessorEnd = "signal 11"
        bench.deliver(.hello(successor.hello), from: successor.session)
        #expect(bench.job(job)?.tasks[0].crashes == 2, "the end of the process ends its leases at once")
        _ = try crash(bench, 4)
        let evidence = try #require(dead(bench, job))
        #expect(evidence.state == .dead && evidence.errorCode == "worker_lost")
        #expect(evidence.task == "only" && evidence.stage == "encoder" && evidence.crashes == 3)
        #expect(evidence.incidents.map(\.worker) == ["worker-1", "worker-2", "worker-4"])
        #expect(evidence.incidents.map(\.step) == [7, 8, 0])
        #expect(evidence.incidents.map(\.processEnd) == ["", "signal 11", ""])
        #expect(evidence.incidents.map(\.isQuarantined) == [false, false, true])
        #expect(evidence.incidents.map(\.fence).first == first.lease.fence)
        #expect(evidence.incidents[1].grantedUnixMilliseconds == begun)
        #expect(evidence.incidents[1].endedUnixMilliseconds == begun + 100)
        #expect(evidence.incidents.allSatisfy { $0.numerics == "cpu" && $0.kind == "expired" })
        bench.restart()
        #expect(dead(bench, job) == evidence, "the evidence is in the ledger")
    }

    @Test("a failure for good is evidence too; jobs that did not die have none")
    func failedForGood() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let worker = TestWorker(1, ["encoder"])
        let assign = try #require(bench.join(worker).assigns.first)
        #expect(bench.deliver(.deadQuery(DeadQuery(job: job)), from: client).errors.map(\.code) == ["job_not_dead"])
        bench.deliver(assign.fail(.never, code: "numeric_fault"), from: worker.session)
        let incident = try #require(dead(bench, job)?.incidents.first)
        #expect(incident.code == "numeric_fault" && incident.worker == "worker-1" && incident.kind == "failed")
        #expect(bench.deliver(.deadQuery(DeadQuery(job: "x")), from: client).errors.map(\.code) == ["job_not_found"])
    }

    @Test("failures are counted by class: three of one class end the job, two of each of two do not")
    func failureClasses() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let worker = TestWorker(1, ["encoder"])
        var assign = try #require(bench.join(worker).assigns.first)
        for retry in [Failure.Retry.sameWorker, .otherWorker, .sameWorker, .otherWorker] {
            bench.deliver(assign.fail(retry), from: worker.session)
            var sends = bench.beat(worker)
            for _ in 0..<40 where sends.assigns.isEmpty { sends += bench.pass(1000) + bench.beat(worker) }
            assign = try #require(sends.assigns.first)
            bench.beat(worker, running: [assign])
        }
        #expect(bench.job(job)?.tasks[0].failures == 4)
        #expect(bench.job(job)?.state == .running)
        bench.deliver(assign.fail(.otherWorker), from: worker.session)
        #expect(bench.job(job)?.state == .failed)
    }

    @Test("however many workers are too small, a job fails only when the last one has tried")
    func tooSmall() throws {
        let bench = BrokerBench()
        let workers = (1...5).map { TestWorker($0, ["encoder"]) }
        let job = bench.submit(single())
        var sends = workers.flatMap { bench.join($0) }
        var tried: Set<String> = []
        for count in 1...5 {
            for _ in 0..<40 where sends.assigns.isEmpty {
                sends += bench.pass(1000)
                for worker in workers { sends += bench.beat(worker) }
            }
            let assign = try #require(sends.assigns.first)
            let name = try #require(bench.job(job)?.tasks[0].worker)
            #expect(tried.insert(name).inserted, "each has it once")
            let session = try #require(workers.first { $0.hello.worker == name }?.session)
            sends = bench.deliver(assign.fail(.biggerWorker), from: session)
            #expect(bench.job(job)?.state == (count < 5 ? .running : .failed))
        }
    }

    @Test("a list of dead jobs pages from the newest back and has no evidence in it")
    func list() throws {
        let bench = BrokerBench()
        let worker = TestWorker(1, ["encoder"])
        bench.join(worker)
        var jobs: [String] = []
        for _ in 0..<3 {
            jobs.append(bench.submit(single()))
            let fence = try #require(bench.job(jobs.last ?? "")?.tasks[0].fence)
            let lease = Lease(task: TaskID(job: jobs.last ?? "", name: "only"), fence: fence)
            bench.deliver(
                .fail(Fail(lease: lease, code: "broken", message: "it broke", retry: .never)), from: worker.session)
            bench.beat(worker)
        }
        func page(_ before: String) -> DeadPage? {
            let query = DeadQuery(job: "", before: before, limit: 2)
            if case .deadPage(let page) = bench.deliver(.deadQuery(query), from: client).first?.message { return page }
            return nil
        }
        #expect(page("")?.jobs.map(\.job) == [jobs[2], jobs[1]])
        #expect(page("")?.hasMore == true)
        #expect(page(jobs[1])?.jobs.map(\.job) == [jobs[0]])
        #expect(page(jobs[1])?.hasMore == false)
        #expect(page("")?.jobs.allSatisfy(\.incidents.isEmpty) == true)
    }

    @Test("a retried job is a new one that keeps the durable outputs and goes on from the checkpoint")
    func retry() throws {
        let bench = BrokerBench()
        let all = ["encoder", "denoiser", "decoder", "muxer"]
        let worker = TestWorker(1, all)
        let dead = bench.submit(video())
        let encode = try #require(bench.join(worker).assigns.first)
        let encoded = bench.deliver(encode.complete([output("prompt_embeds", 1)]), from: worker.session)
        let denoise = try #require((encoded + bench.beat(worker)).assigns.first)
        for step in [20, 30] {
            let report = CheckpointReport(lease: denoise.lease, step: UInt32(step), ref: blob(step))
            bench.deliver(.checkpoint(report), from: worker.session)
        }
        bench.deliver(denoise.fail(.never, code: "numeric_fault"), from: worker.session)
        bench.deliver(.goodbye, from: worker.session)
        let sends = bench.deliver(.deadRetry(DeadRetry(job: dead, idempotencyKey: "again")), from: client)
        let job = try #require(sends.accepted.first?.job)
        #expect(job != dead)
        #expect(bench.job(job)?.tasks.map(\.state) == [.done, .ready, .blocked, .blocked])
        #expect(bench.job(dead)?.state == .failed && bench.job(dead)?.retriedAs == job)
        let again = bench.deliver(.deadRetry(DeadRetry(job: dead, idempotencyKey: "again")), from: client)
        #expect(again.accepted == [Accepted(job: job, replayed: true)])
        bench.restart()
        let resumed = try #require(bench.join(worker).assigns.first)
        #expect(resumed.lease.task == TaskID(job: job, name: "denoise"))
        #expect(resumed.checkpoint == blob(30) && resumed.checkpointStep == 30 && resumed.attempt == 1)
        #expect(resumed.earlierCheckpoint == blob(20) && resumed.earlierCheckpointStep == 20)
        #expect(resumed.inputs == [output("prompt_embeds", 1)])
        #expect(bench.deliver(.deadRetry(DeadRetry(job: job)), from: client).errors.map(\.code) == ["job_not_dead"])
    }

    @Test("a retry counts against its tenant's limit")
    func retryQuota() throws {
        let bench = BrokerBench { $0.tenantJobLimit = 1 }
        let worker = TestWorker(1, ["encoder"])
        let dead = bench.submit(single())
        let first = try #require(bench.join(worker).assigns.first)
        bench.deliver(first.fail(.never), from: worker.session)
        let next = bench.submit(single())
        let refused = bench.deliver(.deadRetry(DeadRetry(job: dead)), from: client).errors
        #expect(refused.map(\.code) == ["quota"])
        #expect(refused.allSatisfy { $0.retryAfterMilliseconds > 0 })
        bench.deliver(.cancel(job: next), from: client)
        #expect(bench.deliver(.deadRetry(DeadRetry(job: dead)), from: client).accepted.count == 1)
    }

    @Test("what a retry took over stays in the store when the dead job's retention ends")
    func retryOutlivesRetention() throws {
        let bench = BrokerBench { $0.retentionMilliseconds = 3_600_000 }
        let worker = TestWorker(1, ["encoder"])
        let dead = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(.checkpoint(CheckpointReport(lease: assign.lease, step: 3, ref: blob(3))), from: worker.session)
        bench.deliver(assign.fail(.never), from: worker.session)
        let sends = bench.deliver(.deadRetry(DeadRetry(job: dead)), from: client)
        let job = try #require(sends.accepted.first?.job)
        bench.pass(4_000_000)
        bench.pass(4_000_000)
        #expect(bench.job(dead) == nil && bench.job(job) != nil)
        #expect(bench.removals.isEmpty)
    }
}
