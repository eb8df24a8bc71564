import Bus
import Failure
import Foundation
import Glibc
import Logging
import Runtime
import ServiceLifecycle
import Stage
import Synchronization
import Tensor
import Testing
import Wire

@Suite(.serialized, .timeLimit(.minutes(1)))
struct StageWorkerTests {
    /// Runs `body` beside a worker around `handler`, then stops the worker and checks that it ended without an error.
    private func withWorker(
        _ handler: @escaping @Sendable (StageTask) async throws(Failure) -> StageResult, slots: Int = 1,
        refusals: Int = 0, _ body: (FakeBroker, ServiceGroup) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/zs-\(UUID().uuidString.prefix(8))"
        let runDirectory = try RunDirectory(path: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let broker = try await FakeBroker(runDirectory: runDirectory, refusals: refusals)
        let configuration = WorkerConfiguration(
            name: "worker-1", broker: .ipc(path: runDirectory.socketPath("broker.sock")), runDirectory: runDirectory,
            slots: slots)
        var logger = Logger(label: "stage-tests")
        logger.logLevel = .error
        let worker = StageWorker(
            handler: ScriptedHandler(body: handler), configuration: configuration, logger: logger)
        let group = ServiceGroup(services: [worker], logger: logger)
        async let running: Void = group.run()
        do {
            try await body(broker, group)
        } catch {
            await group.triggerGracefulShutdown()
            throw error
        }
        await group.triggerGracefulShutdown()
        try await running
        await broker.stop()
    }

    private let vector = Tensor([1, 2, 3.5], shape: [3])

    @Test("a task's inputs are fetched, its durable outputs are in the store before COMPLETE, and COMMITTED ends it")
    func completes() async throws {
        try await withWorker(sumOfInput) { broker, _ in
            let hello = await broker.hello()
            #expect(hello.capabilities == [Capability(stage: "test", model: "")])
            #expect(hello.worker == "worker-1" && hello.slots == 1 && hello.numerics == "test/1")
            let lease = try await broker.assign(fence: 1, inputs: [("x", vector)])
            let complete = await broker.complete()
            #expect(complete.lease == lease)
            let output = try #require(complete.outputs.first)
            #expect(output.name == "sum" && output.ref.shape == [1] && output.ref.dtype == .float32)
            #expect(broker.store.contains(output.ref.digest))
            #expect(try await broker.value(of: output.ref) == [6.5])
            #expect(await broker.complete().lease == lease, "COMPLETE comes again until it is committed")
            try await broker.send(.committed(lease))
            _ = await broker.beat { $0.running.isEmpty && $0.freeSlots == 1 }
        }
    }

    @Test("outputs that are not durable are served by the worker until the broker releases them")
    func servesOutputs() async throws {
        try await withWorker(sumOfInput) { broker, _ in
            let hello = await broker.hello()
            let lease = try await broker.assign(fence: 1, inputs: [("x", vector)], durable: false)
            let output = try #require(await broker.complete().outputs.first)
            try await broker.send(.committed(lease))
            #expect(output.ref.locations == hello.dataLocations)
            #expect(try await broker.value(of: output.ref) == [6.5])
            _ = await broker.beat { $0.storeBytes == 4 }
            await broker.release(output.ref.digest)
            _ = await broker.beat { $0.storeBytes == 0 }
            let failure = await #expect(throws: Failure.self) {
                try await broker.value(of: output.ref)
            }
            #expect(failure?.code == "input_missing")
        }
    }

    @Test("beats with the step go out while the handler blocks its thread")
    func beatsWhileComputing() async throws {
        let gate = Gate()
        try await withWorker({ task throws(Failure) in
            task.report(step: 3, of: 10)
            gate.pass()
            return StageResult()
        }) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            for _ in 0..<5 {
                let beat = await broker.beat { $0.running.first?.step == 3 }
                #expect(beat.freeSlots == 0)
                #expect(beat.running.map(\.task) == [lease.task])
                #expect(beat.running.first?.totalSteps == 10)
            }
            gate.open()
            #expect(try await broker.commit().lease == lease)
        }
    }

    @Test(
        "a task that is revoked or whose lease is lost stops at its next step, and the slot takes the next task",
        arguments: [false, true])
    func stops(leaseLost: Bool) async throws {
        let gate = Gate()
        let stopped = Mutex("")
        try await withWorker({ task throws(Failure) in
            guard task.name == "job/task-1" else { return try await sumOfInput(task) }
            task.report(step: 1, of: 2)
            gate.pass()
            do throws(Failure) {
                while true { try task.checkCancelled() }
            } catch {
                stopped.withLock { $0 = error.message }
                throw error
            }
        }) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            _ = await broker.beat { $0.running.first?.step == 1 }
            let order: Message = leaseLost ? .leaseLost(lease) : .revoke(Revoke(lease: lease, reason: "cancelled"))
            try await broker.send(order)
            gate.open()
            _ = await broker.beat { $0.freeSlots == 1 && $0.running.isEmpty }
            #expect(stopped.withLock { $0 }.contains(leaseLost ? "lease_lost" : "cancelled"))
            let second = try await broker.assign(fence: 2, inputs: [("x", vector)])
            #expect(try await broker.commit().lease == second, "the stopped task's result is not reported")
        }
    }

    @Test("a lease that is wanted back is returned after its last checkpoint, and a stage without steps finishes")
    func yields() async throws {
        let gate = Gate()
        try await withWorker({ task throws(Failure) in
            guard task.name == "job/task-1" else { return try await sumOfInput(task) }
            task.report(step: 1, of: 9)
            gate.pass()
            while !task.mustYield {}
            task.saveCheckpoint(step: 2, Tensor([2], shape: [1]))
            throw task.yielded
        }) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            _ = await broker.beat { $0.running.first?.step == 1 }
            try await broker.send(.revoke(Revoke(lease: lease, reason: "preempted", yields: true)))
            gate.open()
            let report = await broker.checkpoint()
            #expect(report.step == 2)
            try await broker.send(.checkpointCommitted(lease: lease, step: 2))
            let refusal = await broker.next { message -> Refuse? in
                if case .refuse(let refuse) = message { refuse } else { nil }
            }
            #expect(refusal == Refuse(lease: lease, code: "yielded"))
            try await broker.send(.leaseLost(lease))
            _ = await broker.beat { $0.freeSlots == 1 && $0.running.isEmpty }
            let second = try await broker.assign(fence: 2, inputs: [("x", vector)])
            try await broker.send(.revoke(Revoke(lease: second, reason: "preempted", yields: true)))
            #expect(try await broker.commit().lease == second)
        }
    }

    @Test("a drained worker finishes, gives nothing away that is still wanted, and ends by itself without an error")
    func drains() async throws {
        try await withWorker(sumOfInput) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1, inputs: [("x", vector)], durable: false)
            let output = try #require(await broker.complete().outputs.first)
            await broker.drain()
            try await broker.send(.committed(lease))
            _ = await broker.beat { $0.freeSlots == 0 && $0.running.isEmpty && $0.storeBytes == 4 }
            #expect(try await broker.value(of: output.ref) == [6.5])
            await broker.release(output.ref.digest)
            await broker.next { if case .goodbye = $0 { () } else { nil } }
        }
    }

    @Test("a restarted broker hears HELLO again, and the running task goes on and completes there")
    func survivesBrokerRestart() async throws {
        let gate = Gate()
        try await withWorker({ task throws(Failure) in
            let x = try await task.input("x", TensorExpectation([.float32], [3]))
            task.report(step: 1, of: 2)
            gate.pass()
            var result = StageResult()
            result.add("x", x)
            return result
        }) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1, inputs: [("x", vector)])
            _ = await broker.beat { $0.running.first?.step == 1 }
            await broker.stop()
            let restarted = try await FakeBroker(runDirectory: broker.runDirectory, epoch: 2)
            _ = await restarted.hello()
            let beat = await restarted.beat { !$0.running.isEmpty }
            #expect(beat.running.first?.fence == 1)
            gate.open()
            let complete = await restarted.complete()
            #expect(complete.lease == lease)
            let output = try #require(complete.outputs.first)
            #expect(output.ref.locations.contains(restarted.storeLocation), "stored where the new broker says")
            #expect(try await restarted.value(of: output.ref) == [1, 2, 3.5])
            try await restarted.send(.committed(lease))
            _ = await restarted.beat { $0.running.isEmpty }
            await restarted.stop()
        }
    }

    @Test("a result that finds the store full waits for room instead of failing its task")
    func waitsForRoom() async throws {
        let handler: @Sendable (StageTask) async throws(Failure) -> StageResult = { _ in
            var result = StageResult()
            result.add("x", Tensor([4], shape: [1]))
            return result
        }
        try await withWorker(handler, refusals: 3) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            let complete = try await broker.commit()
            #expect(complete.lease == lease)
            #expect(await broker.refusalsLeft() == 0, "it was refused three times")
            #expect(try await broker.value(of: #require(complete.outputs.first).ref) == [4])
        }
    }

    @Test("a damaged checkpoint is passed over for the one before it")
    func earlierCheckpoint() async throws {
        let handler: @Sendable (StageTask) async throws(Failure) -> StageResult = { task in
            var result = StageResult()
            for step in task.checkpointSteps {
                do throws(Failure) {
                    result.add("from", try await task.checkpoint(step: step))
                    result.note("step \(step)")
                    return result
                } catch { result.note(error.code) }
            }
            return result
        }
        try await withWorker(handler) { broker, _ in
            _ = await broker.hello()
            let newest = Tensor([8, 8, 8], shape: [3])
            let lost = try await broker.put(newest)
            broker.store.remove(lost.digest)
            try await broker.assign(
                fence: 1, checkpoint: (8, lost), earlier: (5, try await broker.put(Tensor([5], shape: [1]))))
            let complete = try await broker.commit()
            #expect(complete.notes == ["input_missing", "step 5"])
            #expect(try await broker.value(of: #require(complete.outputs.first).ref) == [5])
        }
    }

    @Test("bad inputs fail their task for good and leave the worker unharmed")
    func badInput() async throws {
        try await withWorker(sumOfInput) { broker, _ in
            _ = await broker.hello()
            let bad: [(Tensor, String)] = [
                (Tensor([1, .nan], shape: [2]), "tensor_not_finite"),
                (Tensor([1, 2], shape: [1, 2]), "tensor_misshapen"),
                (Tensor(ids: [1], shape: [1]), "tensor_dtype_wrong"),
            ]
            for (index, (tensor, code)) in bad.enumerated() {
                let lease = try await broker.assign(fence: UInt64(index + 1), inputs: [("x", tensor)])
                let fail = try await broker.fail()
                #expect(fail.lease == lease)
                #expect(fail.code == code)
                #expect(fail.retry == .never)
                #expect(fail.missingInputs.isEmpty)
            }
            let lease = try await broker.assign(fence: 9, inputs: [("x", vector)])
            #expect(try await broker.commit().lease == lease)
        }
    }

    @Test("an input that nobody serves is named in FAIL, so that its producer can run again")
    func missingInput() async throws {
        try await withWorker(sumOfInput) { broker, _ in
            _ = await broker.hello()
            let ref = try await broker.put(vector)
            let gone = TensorRef(
                digest: try #require(Digest(bytes: Array(repeating: 7, count: 32))), dtype: .float32, shape: [3],
                locations: ref.locations)
            let lease = Lease(task: TaskID(job: "job", name: "task"), fence: 1)
            try await broker.send(
                .assign(
                    Assign(
                        lease: lease, attempt: 1, stage: "test", model: "", parameters: "{}",
                        inputs: [NamedRef(name: "x", ref: gone)], durableOutputs: true, checkpoint: nil,
                        checkpointStep: 0, leaseMilliseconds: 30_000)))
            let fail = try await broker.fail()
            #expect(fail.missingInputs == ["x"])
            #expect(fail.code == "input_missing")
        }
    }

    @Test("checkpoints are in the store before they are reported, with rising steps, and all before COMPLETE")
    func checkpoints() async throws {
        let gate = Gate()
        try await withWorker({ task throws(Failure) in
            for step in 1...20 {
                task.saveCheckpoint(step: step, Tensor([Float(step)], shape: [1]))
            }
            gate.pass()
            return StageResult()
        }) { broker, _ in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            var steps: [UInt32] = []
            repeat {
                let report = await broker.checkpoint()
                // Unconfirmed reports come again with every beat.
                if let last = steps.last { #expect(report.step >= last) }
                steps.append(report.step)
                #expect(report.lease == lease)
                #expect(broker.store.contains(report.ref.digest))
                #expect(try await broker.value(of: report.ref) == [Float(report.step)])
            } while steps.last != 20
            try await broker.send(.checkpointCommitted(lease: lease, step: 20))
            gate.open()
            #expect(try await broker.commit().lease == lease)
        }
    }

    @Test("an attempt resumes from the checkpoint that comes with the task")
    func resumes() async throws {
        try await withWorker({ task throws(Failure) in
            var result = StageResult()
            if let step = task.checkpointSteps.first {
                result.note("step \(step)")
                result.add("state", try await task.checkpoint(step: step))
            }
            return result
        }) { broker, _ in
            _ = await broker.hello()
            try await broker.assign(fence: 1, checkpoint: (step: 5, ref: try await broker.put(vector)))
            let complete = try await broker.commit()
            #expect(complete.notes == ["step 5"])
            let state = try #require(complete.outputs.first)
            #expect(try await broker.value(of: state.ref) == [1, 2, 3.5])
        }
    }

    @Test("a stopping worker stores its last checkpoint, then says GOODBYE, and reports no result")
    func shutsDown() async throws {
        try await withWorker({ task throws(Failure) in
            task.report(step: 1, of: 2)
            do throws(Failure) {
                while true { try task.checkCancelled() }
            } catch {
                task.saveCheckpoint(step: 1, Tensor([42], shape: [1]))
                throw error
            }
        }) { broker, group in
            _ = await broker.hello()
            let lease = try await broker.assign(fence: 1)
            _ = await broker.beat { $0.running.first?.step == 1 }
            await group.triggerGracefulShutdown()
            let last: (CheckpointReport?, Bool) = await broker.next { message in
                switch message {
                case .checkpoint(let report): (report, false)
                case .complete, .fail, .goodbye: (nil, true)
                default: nil
                }
            }
            #expect(last.0?.lease == lease && last.0?.step == 1)
            #expect(try await broker.value(of: try #require(last.0?.ref)) == [42])
            let end: Bool = await broker.next { message in
                switch message {
                case .goodbye: true
                case .complete, .fail: false
                default: nil
                }
            }
            #expect(end)
        }
    }

    @Test("a starting worker removes the sockets of killed ones and leaves young and foreign files alone")
    func removesLeftoverSockets() async throws {
        let path = FileManager.default.temporaryDirectory.path + "/zs-\(UUID().uuidString.prefix(8))"
        let runDirectory = try RunDirectory(path: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        for (name, age) in [("data-old.sock", 3600.0), ("data-young.sock", 0), ("broker.sock", 3600)] {
            // Bound and closed without listening, as a killed process leaves it.
            try leaveSocket(runDirectory.socketPath(name))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: runDirectory.socketPath(name))
        }
        let configuration = WorkerConfiguration(
            name: "w", broker: .ipc(path: runDirectory.socketPath("nobody.sock")), runDirectory: runDirectory)
        let handler = ScriptedHandler { _ throws(Failure) in StageResult() }
        let worker = StageWorker(handler: handler, configuration: configuration, logger: Logger(label: "test"))
        let running = Task { try await worker.run() }
        running.cancel()
        try await running.value
        let left = try FileManager.default.contentsOfDirectory(atPath: path)
        #expect(!left.contains("data-old.sock"))
        #expect(left.contains("data-young.sock") && left.contains("broker.sock"))
    }

    private func leaveSocket(_ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        try #require(status == 0)
    }

    @Test("two slots compute two tasks at once")
    func slots() async throws {
        let gate = Gate()
        try await withWorker(
            { task throws(Failure) in
                task.report(step: 1, of: 1)
                gate.pass()
                return StageResult()
            }, slots: 2
        ) { broker, _ in
            _ = await broker.hello()
            let first = try await broker.assign(fence: 1)
            let second = try await broker.assign(fence: 2)
            let beat = await broker.beat { $0.running.count { $0.step == 1 } == 2 }
            #expect(beat.freeSlots == 0)
            gate.open()
            gate.open()
            let one = try await broker.commit().lease
            let other = await broker.next { message -> Lease? in
                if case .complete(let complete) = message, complete.lease != one { complete.lease } else { nil }
            }
            try await broker.send(.committed(other))
            #expect(Set([one, other]) == [first, second])
        }
    }
}
