import Bus
import Failure
import Foundation
import Logging
import Runtime
import ServiceLifecycle
import Stage
import Tensor
import Testing
import Wire

@Suite("A worker process of two cells", .serialized, .timeLimit(.minutes(1)))
struct CellTests {
    private func withWorker(
        _ handler: @escaping @Sendable (StageTask) async throws(Failure) -> StageResult, slots: Int = 1,
        _ body: (FakeBroker, FakeBroker) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/zs-\(UUID().uuidString.prefix(8))"
        let runDirectory = try RunDirectory(path: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let north = try await FakeBroker(runDirectory: runDirectory, epoch: 1, socket: "north.sock", cell: "north")
        let south = try await FakeBroker(runDirectory: runDirectory, epoch: 2, socket: "south.sock", cell: "south")
        let configuration = WorkerConfiguration(
            name: "worker-1",
            brokers: [
                BrokerAddress(cell: "north", endpoint: .ipc(path: runDirectory.socketPath("north.sock"))),
                BrokerAddress(endpoint: .ipc(path: runDirectory.socketPath("south.sock"))),
            ], runDirectory: runDirectory, slots: slots)
        var logger = Logger(label: "stage-tests")
        logger.logLevel = .critical
        let worker = StageWorker(
            handler: ScriptedHandler(body: handler), configuration: configuration, logger: logger)
        let group = ServiceGroup(services: [worker], logger: logger)
        async let running: Void = group.run()
        do {
            try await body(north, south)
        } catch {
            await group.triggerGracefulShutdown()
            throw error
        }
        await group.triggerGracefulShutdown()
        try await running
        await north.stop()
        await south.stop()
    }

    private let vector = Tensor([1, 2, 3.5], shape: [3])

    @Test("a task of one cell takes the slot away from the other, whose offer is refused and taken afterwards")
    func oneSlot() async throws {
        let gate = Gate()
        try await withWorker({ task throws(Failure) in
            if task.name == "job/task-1" { gate.pass() }
            return try await sumOfInput(task)
        }) { north, south in
            _ = await north.hello()
            _ = await south.hello()
            _ = await south.beat { $0.freeSlots == 1 }
            let first = try await north.assign(fence: 1, inputs: [("x", vector)])
            _ = await south.beat { $0.freeSlots == 0 && $0.running.isEmpty }
            let late = try await south.assign(fence: 5, inputs: [("x", vector)])
            let refuse = await south.next { if case .refuse(let refuse) = $0 { refuse } else { nil } }
            #expect(refuse == Refuse(lease: late, code: "busy"))
            gate.open()
            #expect(try await north.commit().lease == first)
            _ = await south.beat { $0.freeSlots == 1 }
            let second = try await south.assign(fence: 6, inputs: [("x", vector)])
            #expect(try await south.commit().lease == second)
        }
    }

    @Test("each task's blobs come from and go to the store of its own cell")
    func stores() async throws {
        try await withWorker(sumOfInput, slots: 2) { north, south in
            _ = await north.hello()
            _ = await south.hello()
            try await north.assign(fence: 1, inputs: [("x", vector)])
            try await south.assign(fence: 1, inputs: [("x", Tensor([4], shape: [1]))])
            let ofNorth = try #require(try await north.commit().outputs.first?.ref)
            let ofSouth = try #require(try await south.commit().outputs.first?.ref)
            #expect(north.store.contains(ofNorth.digest) && !south.store.contains(ofNorth.digest))
            #expect(south.store.contains(ofSouth.digest) && !north.store.contains(ofSouth.digest))
            #expect(try await south.value(of: ofSouth) == [4])
        }
    }

    @Test("bytes that jobs of both cells wait for are kept until both have released them")
    func keptForBoth() async throws {
        try await withWorker(sumOfInput, slots: 2) { north, south in
            _ = await north.hello()
            _ = await south.hello()
            try await north.assign(fence: 1, inputs: [("x", vector)], durable: false)
            let output = try #require(try await north.commit().outputs.first)
            try await south.assign(fence: 1, inputs: [("x", vector)], durable: false)
            #expect(try await south.commit().outputs.first == output)
            await north.release(output.ref.digest)
            _ = await north.beat { $0.running.isEmpty }
            _ = await north.beat { $0.running.isEmpty }
            #expect(try await south.value(of: output.ref) == [6.5])
            await south.release(output.ref.digest)
            _ = await south.beat { $0.storeBytes == 0 }
        }
    }

    @Test("an order of one cell to leave is an order for both")
    func drains() async throws {
        try await withWorker(sumOfInput) { north, south in
            _ = await north.hello()
            _ = await south.hello()
            await south.drain()
            await north.next { if case .goodbye = $0 { () } else { nil } }
            await south.next { if case .goodbye = $0 { () } else { nil } }
        }
    }
}
