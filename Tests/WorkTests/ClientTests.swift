import Failure
import Testing
import Wire
import Work

@Suite("Clients")
struct ClientTests {
    let worker = TestWorker(1, ["encoder"])
    let client = session(200)

    @Test("the same key and body replay the first answer; another body is refused; no key is always a new job")
    func idempotency() {
        let bench = BrokerBench()
        let first = bench.deliver(.submit(single(key: "k")), from: client).accepted
        #expect(first == [Accepted(job: "job-1", replayed: false)])
        #expect(
            bench.deliver(.submit(single(key: "k")), from: session(9)).accepted == [
                Accepted(job: "job-1", replayed: true)
            ])
        var changed = single(key: "k")
        changed.requestDigest = digest(8)
        #expect(bench.deliver(.submit(changed), from: client).errors.map(\.code) == ["key_reused_with_other_body"])
        var otherTenant = changed
        otherTenant.tenant = "u"
        #expect(bench.deliver(.submit(otherTenant), from: client).accepted == [Accepted(job: "job-2", replayed: false)])
        #expect(bench.deliver(.submit(single()), from: client).accepted == [Accepted(job: "job-3", replayed: false)])
        #expect(bench.deliver(.submit(single()), from: client).accepted == [Accepted(job: "job-4", replayed: false)])
        #expect(bench.entries.count == 4)
    }

    @Test("a key still replays after a restart of the broker")
    func idempotencyAcrossRestart() {
        let bench = BrokerBench()
        bench.deliver(.submit(single(key: "k")), from: client)
        bench.restart()
        #expect(
            bench.deliver(.submit(single(key: "k")), from: client).accepted == [Accepted(job: "job-1", replayed: true)])
    }

    @Test(
        "a job that is no graph is refused and says why",
        arguments: [
            ("", ["a"], "unique"), ("x", ["x"], "wait for each other"), ("x", ["nowhere"], "does not have"),
        ])
    func malformed(name: String, producers: [String], expected: String) {
        let bench = BrokerBench()
        var submit = single()
        submit.tasks[0].name = name
        submit.tasks[0].inputs = producers.map { TaskInput(name: "in", source: .task(name: $0, output: "out")) }
        let errors = bench.deliver(.submit(submit), from: client).errors
        #expect(errors.map(\.code) == ["job_malformed"])
        #expect(errors.first?.message.contains(expected) == true)
        #expect(bench.entries.isEmpty)
    }

    @Test("beyond the limit of unfinished jobs new ones are refused with a time to come back")
    func overload() {
        let bench = BrokerBench { $0.unfinishedJobLimit = 2 }
        _ = bench.submit(single())
        _ = bench.submit(single())
        let error = bench.deliver(.submit(single()), from: client).errors.first
        #expect(error?.code == "overloaded")
        #expect(error.map { $0.retryAfterMilliseconds > 0 } == true)
    }

    @Test("WATCH answers at once, then pushes every change with a rising revision, and ends with the job")
    func watch() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let now = bench.deliver(.watch(Watch(job: job, revision: 0)), from: client).events
        #expect(now.map(\.state) == [.accepted])
        let running = bench.join(worker)
        let assign = try #require(running.assigns.first)
        let event = try #require(running.events.last)
        #expect(event.state == .running && event.revision > now[0].revision)
        let done = bench.deliver(assign.complete([]), from: worker.session).events
        #expect(done.map(\.state) == [.done])
        #expect(done[0].revision > event.revision)
        #expect(bench.beat(worker).events.isEmpty)
        #expect(
            bench.deliver(.watch(Watch(job: "nobody", revision: 0)), from: client).errors.map(\.code) == [
                "job_not_found"
            ])
    }

    @Test("revisions rise across a restart of the broker")
    func revisionAcrossRestart() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        bench.join(worker)
        let before = try #require(bench.status(job)).revision
        bench.restart()
        #expect((bench.status(job)?.revision ?? 0) > before)
    }

    @Test("step progress is pushed at most every 100 ms, the newest of it")
    func conflation() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(.watch(Watch(job: job, revision: 0)), from: client)
        #expect(bench.beat(worker, running: [assign], step: 1, totalSteps: 9).events.map { $0.tasks[0].step } == [1])
        #expect(bench.beat(worker, running: [assign], step: 2, totalSteps: 9).events.isEmpty)
        #expect(bench.beat(worker, running: [assign], step: 3, totalSteps: 9).events.isEmpty)
        #expect(bench.pass(50).events.isEmpty)
        #expect(bench.pass(50).events.map { $0.tasks[0].step } == [3])
        #expect(bench.pass(200).events.isEmpty)
    }

    @Test("a watcher that cannot be reached is dropped")
    func lostWatcher() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        bench.deliver(.watch(Watch(job: job, revision: 0)), from: client)
        bench.handle(.unreachable(client))
        #expect(bench.join(worker).events.isEmpty)
        #expect(bench.job(job)?.state == .running)
    }

    @Test("a page lists jobs newest first, goes on after `before`, and says whether there are more")
    func pages() {
        let bench = BrokerBench()
        for _ in 0..<5 { _ = bench.submit(single()) }
        func page(_ bench: BrokerBench, before: String) -> StatusPage? {
            let sends = bench.deliver(.query(Query(job: "", before: before, limit: 3)), from: client)
            if case .status(let page) = sends.first?.message { return page } else { return nil }
        }
        let first = page(bench, before: "")
        #expect(first?.jobs.map(\.job) == ["job-5", "job-4", "job-3"] && first?.hasMore == true)
        let second = page(bench, before: "job-3")
        #expect(second?.jobs.map(\.job) == ["job-2", "job-1"] && second?.hasMore == false)
        #expect(bench.deliver(.query(Query(job: "", before: "nobody")), from: client).errors.count == 1)
    }

    @Test("a page of long specifications stays inside one control frame")
    func pageSize() {
        let bench = BrokerBench()
        for _ in 0..<8 {
            var submit = single()
            submit.specification = String(repeating: "x", count: Limits.specificationBytes)
            _ = bench.submit(submit)
        }
        let sends = bench.deliver(.query(Query(job: "")), from: client)
        guard case .status(let page) = sends.first?.message else { Issue.record("no page"); return }
        #expect(page.jobs.count == 2 && page.hasMore)
    }

    @Test("a job that waits for a stage nobody serves says so, with the model")
    func waitingNote() throws {
        let bench = BrokerBench()
        let job = bench.submit(single(stage: "encoder"))
        #expect(bench.status(job)?.tasks[0].notes == ["waiting for an encoder with model m1"])
        bench.join(TestWorker(1, ["encoder"]))
        #expect(bench.status(job)?.tasks[0].notes.isEmpty == true)
    }

    @Test("queue positions count the waiting jobs ahead by priority and age")
    func queue() throws {
        let bench = BrokerBench()
        let plain = bench.submit(single())
        let later = bench.submit(single())
        let urgent = bench.submit(single(priority: 5))
        #expect(bench.status(urgent)?.queuePosition == 0)
        #expect(bench.status(plain)?.queuePosition == 1)
        #expect(bench.status(later)?.queuePosition == 2)
        let assign = try #require(bench.join(worker).assigns.first)
        #expect(assign.lease.task.job == urgent)
        #expect(bench.status(later)?.queuePosition == 1)
    }

    @Test("the estimate is 0 until something like it has finished, then scales with the parameters")
    func estimates() throws {
        let bench = BrokerBench()
        let first = bench.submit(single(parameters: "{\"width\":10,\"numInferenceSteps\":5}"))
        #expect(bench.status(first)?.remainingMilliseconds == 0)
        let assign = try #require(bench.join(worker).assigns.first)
        bench.deliver(assign.complete([], elapsed: 5000), from: worker.session)
        let second = bench.submit(single(parameters: "{\"width\":20,\"numInferenceSteps\":5}"))
        #expect(bench.status(second)?.remainingMilliseconds == 10_000)
        let third = bench.submit(single(parameters: "{\"width\":10,\"numInferenceSteps\":5}"))
        #expect(bench.status(third)?.remainingMilliseconds == 15_000)
        bench.restart()
        bench.join(worker)
        #expect(bench.status(third)?.remainingMilliseconds ?? 0 > 0)
    }

    @Test("a running task's estimate comes from its own step times")
    func runningEstimate() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        for step in 1...3 as ClosedRange<UInt32> {
            bench.pass(2000)
            bench.beat(worker, running: [assign], step: step, totalSteps: 10)
        }
        #expect(bench.status(job)?.tasks[0].remainingMilliseconds == 14_000)
        #expect(bench.status(job)?.tasks[0].elapsedMilliseconds == 6000)
    }

    @Test("the cluster lists workers with their busy slots")
    func cluster() throws {
        let bench = BrokerBench()
        _ = bench.submit(single())
        _ = bench.submit(single())
        bench.join(worker)
        bench.now.milliseconds += 300
        let sends = bench.deliver(.clusterQuery, from: client)
        guard case .cluster(let status) = sends.first?.message else { Issue.record("no status"); return }
        #expect(status.workers.map(\.worker) == ["worker-1"])
        #expect(status.workers[0].busy == 1 && status.workers[0].millisecondsSinceBeat == 300)
        #expect(status.queuedJobs == 1 && status.runningJobs == 1)
    }

    @Test("the cluster says what workers have ready, and leaves no worker out for it")
    func readyWeights() throws {
        let bench = BrokerBench()
        let names = (0..<Limits.warmPerWorker).map { "\($0)" + String(repeating: "a", count: 120) }
        for number: UInt8 in 1...100 {
            let worker = TestWorker(number, ["denoiser"])
            bench.join(worker)
            bench.deliver(
                .beat(Beat(freeSlots: 1, running: [], storeBytes: 0, warm: names)), from: worker.session)
        }
        guard case .cluster(let status) = bench.deliver(.clusterQuery, from: client).first?.message else {
            Issue.record("no status")
            return
        }
        #expect(status.workers.count == 100)
        #expect(status.workers[0].warm == names.sorted() && status.workers[99].warm.isEmpty)
        let bytes = try EnvelopeCodec.encode(
            Envelope(session: session(1), sequence: 1, brokerEpoch: 1, message: .cluster(status)))
        #expect(bytes.count <= Limits.controlFrameBytes)
    }

    @Test("CLIENT_HELLO is welcomed; a message only brokers send is refused")
    func welcome() {
        let bench = BrokerBench { $0.storeLocations = [.tcp(address: "10.0.0.1", port: 4)] }
        let sends = bench.deliver(.clientHello, from: client)
        guard case .welcome(let welcome) = sends.first?.message else { Issue.record("no welcome"); return }
        #expect(welcome.storeLocations == [.tcp(address: "10.0.0.1", port: 4)] && welcome.leaseMilliseconds == 15_000)
        #expect(bench.deliver(.needHello, from: client).errors.map(\.code) == ["unexpected"])
    }

    @Test("a read-only broker serves queries, refuses SUBMIT and CANCEL, leases nothing and expires nothing")
    func readOnly() throws {
        let bench = BrokerBench()
        let job = bench.submit(single())
        let assign = try #require(bench.join(worker).assigns.first)
        _ = bench.submit(single())
        let reason = Failure("ledger_full", "no space left")
        bench.broker.recover(records: bench.broker.records, readOnly: reason, now: bench.now)
        let before = bench.entries.count
        #expect(bench.deliver(.submit(single()), from: client).errors.map(\.code) == ["ledger_full"])
        #expect(bench.deliver(.cancel(job: job), from: client).errors.map(\.code) == ["ledger_full"])
        #expect(bench.status(job)?.state == .running)
        #expect(bench.deliver(assign.complete([]), from: worker.session).committed.isEmpty)
        bench.pass(60_000)
        #expect(bench.entries.count == before)
        bench.broker.recover(records: bench.broker.records, readOnly: nil, now: bench.now)
        #expect(bench.deliver(assign.complete([]), from: worker.session).committed == [assign.lease])
    }
}
