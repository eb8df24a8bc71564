import Failure
import GatewayService
import Hummingbird
import HummingbirdTesting
import NIOCore
import Tensor
import Testing
import Wire

@Suite("A gateway of several cells", .timeLimit(.minutes(1)))
struct CellTests {
    /// Three cells and a gateway in front of them. The brokers are asked whether they are there at the start only, and
    /// afterwards say so themselves.
    private struct House {
        let cells = [FakeCell("north"), FakeCell("south"), FakeCell("west")]
        let service: CellJobService
        let gateway: Gateway

        init(named: Bool = true, interval: Duration = .seconds(600)) throws {
            service = CellJobService(
                cells.map {
                    CellJobService.Member(service: $0, address: "ipc://\($0.name)", name: named ? $0.name : nil)
                },
                interval: interval)
            gateway = Gateway(service: service, traits: try GatewayFixture().traits)
        }

        func test(_ body: @Sendable @escaping (any TestClientProtocol) async throws -> Void) async throws {
            try await Application(router: gateway.router(), logger: GatewayFixture.silent).test(.router, body)
            await service.close()
        }

        func cell(of job: String) -> FakeCell? { cells.first { CellName.tag(ofJob: job) == CellName.tag(of: $0.name) } }

        var submissions: [Int] {
            get async {
                var counts: [Int] = []
                for cell in cells { counts.append(await cell.submitted.count) }
                return counts
            }
        }
    }

    private static func submit(key: String = "", body: UInt8 = 1, blob: TensorRef? = nil) -> Submit {
        let inputs = blob.map { [TaskInput(name: "init", source: .blob($0))] } ?? []
        return Submit(
            idempotencyKey: key, requestDigest: Digest.of([body]), tenant: "t", priority: 0, specification: "{}",
            tasks: [
                TaskSpecification(
                    name: "denoise", stage: "denoiser", model: GatewayFixture.modelDigest, parameters: "{}",
                    inputs: inputs, durableOutputs: true)
            ])
    }

    // MARK: New jobs

    @Test("new jobs go to the cell with the least expected wait, and to equal ones in turn")
    func leastWait() async throws {
        let house = try House()
        await house.cells[0].expectWait(9000)
        await house.cells[2].expectWait(5000)
        await house.cells[0].add(1, at: 1)
        await house.cells[2].add(1, at: 1)
        _ = try await house.service.submit(Self.submit())
        #expect(await house.submissions == [0, 1, 0])
        let equal = try House()
        for _ in 0..<3 { _ = try await equal.service.submit(Self.submit()) }
        #expect(await equal.submissions == [1, 1, 1])
    }

    @Test("a cell without workers for the job, that takes no jobs, or that is away gets none while another can")
    func avoids() async throws {
        let house = try House()
        await house.cells[0].employ([])
        _ = try await house.cells[1].drain(Drain(broker: true))
        for _ in 0..<3 { _ = try await house.service.submit(Self.submit()) }
        #expect(await house.submissions == [0, 0, 3])
        await house.cells[2].leave()
        _ = try await house.service.submit(Self.submit())
        #expect(await house.submissions == [0, 1, 3], "a draining broker is asked before one without workers")
        for cell in house.cells { await cell.leave() }
        let failure = await #expect(throws: Failure.self) { try await house.service.submit(Self.submit()) }
        #expect(failure?.code == "cell_unreachable")
    }

    @Test("a refusal sends a job without a key to the next cell; no answer does not, for it may be a job already")
    func refusals() async throws {
        let house = try House()
        await house.cells[0].expectWait(1)
        for cell in [1, 2] {
            await house.cells[cell].expectWait(99)
            await house.cells[cell].add(1, at: 1)
        }
        await house.cells[0].refuse(with: Failure("overloaded", "full"))
        _ = try await house.service.submit(Self.submit())
        #expect(await house.submissions.reduce(0, +) == 1)
        await house.cells[0].refuse(with: Failure("broker_unreachable", "no answer"))
        let failure = await #expect(throws: Failure.self) { try await house.service.submit(Self.submit()) }
        #expect(failure?.code == "cell_unreachable")
        #expect(await house.submissions.reduce(0, +) == 1)
    }

    // MARK: Keys

    @Test("a key finds its job again through any gateway, whatever the order of its list")
    func keyedOnce() async throws {
        let house = try House()
        let reversed = CellJobService(
            house.cells.reversed().map { CellJobService.Member(service: $0, address: "", name: nil) })
        for key in 0..<40 {
            let first = try await house.service.submit(Self.submit(key: "k\(key)"))
            let again = try await reversed.submit(Self.submit(key: "k\(key)"))
            #expect(again.job == first.job && again.replayed && !first.replayed)
        }
        let counts = await house.submissions
        #expect(counts.reduce(0, +) == 40 && counts.allSatisfy { $0 > 1 }, "\(counts)")
        let other = await #expect(throws: Failure.self) {
            try await house.service.submit(Self.submit(key: "k1", body: 2))
        }
        #expect(other?.code == "key_reused_with_other_body")
        await house.service.close()
        await reversed.close()
    }

    @Test(
        "a key whose cell is away is refused rather than made elsewhere; others are taken; it is taken when it is back")
    func keyedAway() async throws {
        let house = try House()
        let first = try await house.service.submit(Self.submit(key: "k"))
        let home = try #require(house.cell(of: first.job))
        await home.leave()
        for _ in 0..<3 {
            let failure = await #expect(throws: Failure.self) { try await house.service.submit(Self.submit(key: "k")) }
            #expect(failure?.code == "cell_unreachable" && failure?.message.contains(home.name) == true)
        }
        var taken = 0
        for key in 0..<30 where (try? await house.service.submit(Self.submit(key: "x\(key)"))) != nil { taken += 1 }
        #expect((12...28).contains(taken), "about two thirds of the keys have another home: \(taken)")
        await home.comeBack()
        #expect(try await house.service.submit(Self.submit(key: "k")).job == first.job)
    }

    @Test("a cell added to the list takes no key away from the job that has it")
    func keyedAfterGrowth() async throws {
        let house = try House()
        let before = CellJobService(
            house.cells.prefix(2).map { CellJobService.Member(service: $0, address: "", name: $0.name) })
        for key in 0..<20 {
            let first = try await before.submit(Self.submit(key: "k\(key)"))
            #expect(
                try await house.service.submit(Self.submit(key: "k\(key)")) == Accepted(job: first.job, replayed: true))
        }
        #expect(await house.submissions.reduce(0, +) == 20)
        await before.close()
    }

    @Test("without names in the list a cell that was never met lets no key in, because it may be the key's home")
    func keyedUnmet() async throws {
        let house = try House(named: false)
        await house.cells[1].leave()
        let failure = await #expect(throws: Failure.self) { try await house.service.submit(Self.submit(key: "k")) }
        #expect(failure?.code == "cell_unreachable" && failure?.remedy?.contains("NAME=") == true)
        _ = try await house.service.submit(Self.submit())
        #expect(await house.submissions.reduce(0, +) == 1)
    }

    // MARK: Jobs

    @Test("a job is found by its id alone, and one of a cell that is away is unreachable, never unknown")
    func finds() async throws {
        let house = try House()
        let job = await house.cells[1].add(7, at: 5)
        let other = await house.cells[0].add(7, at: 5)
        try await house.test { client in
            #expect(try await client.get("/v1/videos/\(job)").status == .ok)
            #expect(try await client.get("/v1/videos/\(job)").text.contains("\"x_cell\":\"south\""))
            #expect(try await client.get("/v1/videos/video_\(String(repeating: "7", count: 32))").status == .notFound)
            await house.cells[1].leave()
            let away = try await client.get("/v1/videos/\(job)")
            #expect(away.status == .serviceUnavailable)
            #expect(try away.code() == "cell_unreachable")
            #expect(away.header("Retry-After") == "2" && away.text.contains("south"))
            #expect(try await client.delete("/v1/videos/\(job)").status == .serviceUnavailable)
            #expect(try await client.get("/v1/videos/\(job)/events").status == .serviceUnavailable)
            #expect(try await client.get("/v1/videos/\(other)").status == .ok)
            let unknown = try await client.get("/v1/videos/video_\(String(repeating: "7", count: 32))")
            #expect(unknown.status == .serviceUnavailable, "the cell that is away might know it")
        }
    }

    @Test("jobs from before their broker had this name are found by asking")
    func findsOldIds() async throws {
        let house = try House()
        let old = "video_" + String(repeating: "3", count: 32)
        await house.cells[2].add(0, at: 5, id: old)
        #expect(try await house.service.status(job: old).cell == "west")
        #expect(try await house.service.retry(DeadRetry(job: old)).job.hasPrefix("video_" + CellName.tag(of: "west")))
    }

    @Test("a broker that says another name than the list gives it is not used")
    func mismatch() async throws {
        let cell = FakeCell("north")
        let service = CellJobService([
            .init(service: cell, address: "ipc://a", name: "south"),
            .init(service: FakeCell("west"), address: "ipc://b", name: "west"),
        ])
        for _ in 0..<3 { _ = try await service.submit(Self.submit()) }
        #expect(await cell.submitted.isEmpty)
        #expect(await service.cells().map { $0.problem?.code } == ["cell_mismatch", nil])
        await service.close()
    }

    // MARK: Lists

    @Test("pages run through the jobs of all cells by age, each job once, and name the cells that are missing")
    func lists() async throws {
        let house = try House()
        var expected: [(time: UInt64, cell: Int, id: String)] = []
        for number in 0..<30 {
            // Several of one millisecond, in different cells and in one.
            let time = UInt64(1000 + number / 4)
            let cell = number * 7 % 3
            expected.append((time, cell, await house.cells[cell].add(number, at: time)))
        }
        let order = expected.enumerated().sorted {
            ($1.element.time, $0.element.cell, $1.offset) < ($0.element.time, $1.element.cell, $0.offset)
        }.map(\.element.id)
        try await house.test { client in
            for limit in [1, 4, 7, 20] {
                var found: [String] = []
                var after = ""
                while true {
                    let page = try await client.get("/v1/videos?limit=\(limit)\(after)").decoded(ReadPage.self)
                    found += page.data.map(\.id)
                    guard page.has_more else { break }
                    after = "&after=\(page.last_id ?? "")"
                }
                #expect(found == order, "limit \(limit)")
            }
            await house.cells[0].leave()
            let partial = try await client.get("/v1/videos?limit=100").decoded(ReadPage.self)
            #expect(partial.x_unreachable_cells == ["north"])
            #expect(partial.data.map(\.id) == order.filter { CellName.tag(ofJob: $0) != CellName.tag(of: "north") })
        }
        let dead = try await house.service.dead(DeadQuery(job: "", limit: 5))
        #expect(dead.jobs.count == 5 && dead.hasMore)
    }

    private struct ReadPage: Decodable {
        struct Item: Decodable { var id: String }
        var data: [Item]
        var has_more: Bool
        var last_id: String?
        var x_unreachable_cells: [String]?
    }

    // MARK: Blobs

    @Test("a blob in one cell's store goes along with a job of another cell")
    func blobs() async throws {
        let house = try House()
        let ref = try await house.cells[2].store(Tensor([1, 2, 3], shape: [3]))
        #expect(try await house.service.bytes(of: ref).count == 12)
        #expect(try await house.service.stored(ref.digest, dtype: .float32, shape: [3]) == ref)
        _ = try await house.service.submit(Self.submit(blob: ref))
        #expect(await house.submissions == [0, 0, 1], "without a key it goes where the blob is")
        for key in 0..<10 { _ = try await house.service.submit(Self.submit(key: "b\(key)", blob: ref)) }
        for cell in house.cells {
            let own = try await cell.storeLocations()
            for submit in await cell.submitted {
                guard case .blob(let found)? = submit.tasks[0].inputs.first?.source else { continue }
                #expect(found.locations == own && found.digest == ref.digest)
                #expect(await cell.blobs[ref.digest] != nil)
            }
        }
    }

    // MARK: The whole

    @Test("health, workers and metrics tell the cells apart, and one whole cell is enough to be healthy")
    func whole() async throws {
        let house = try House()
        await house.cells[0].employ([GatewayFixture.worker("denoiser", model: GatewayFixture.modelDigest)])
        try await house.test { client in
            await house.cells[2].leave()
            let health = try await client.get("/healthz")
            #expect(health.status == .ok)
            for text in [
                #""name":"north","#, #""status":"incomplete""#, #""status":"broker_unreachable""#,
                #""missing":[],"model""#,
            ] { #expect(health.text.contains(text), "\(text) in \(health.text)") }
            let metrics = try await client.get("/metrics").text
            for line in [
                "zoetrope_broker_up{cell=\"south\"} 1", "zoetrope_broker_up{cell=\"west\"} 0",
                "zoetrope_jobs_running{cell=\"north\"} 0", "zoetrope_workers{stage=\"denoiser\"} 1",
            ] { #expect(metrics.contains(line + "\n"), "\(line) in \(metrics)") }
            let workers = try await client.get("/v1/workers").text
            #expect(workers.contains("\"reachable\":false"))
            await house.cells[1].leave()
            #expect(try await client.get("/healthz").status == .serviceUnavailable)
        }
    }

    @Test("a worker is drained through every cell, a broker alone where its cell is named")
    func drains() async throws {
        let house = try House()
        await house.cells[2].employ([])
        try await house.test { client in
            let worker = try await client.post("/v1/drain", #"{"worker": "denoiser-1"}"#)
            #expect(worker.status == .ok && worker.text.contains("denoiser-1"))
            let one = try await client.post("/v1/drain", #"{"broker": true, "cell": "south"}"#)
            #expect(one.status == .ok && one.text.contains("\"broker\":true"))
            let nobody = try await client.post("/v1/drain", #"{"broker": true, "cell": "east"}"#)
            #expect(nobody.status == .notFound)
            #expect(try nobody.code() == "cell_unknown")
            #expect(
                try await client.post("/v1/drain", #"{"worker": "denoiser-1", "cell": "south"}"#).status == .badRequest)
        }
        var drained: [Int] = []
        for cell in house.cells { drained.append(await cell.drains.count { $0.broker }) }
        #expect(drained == [0, 1, 0])
        #expect(await house.cells[0].drains.contains { $0.worker == "denoiser-1" })
    }

    @Test("a broker that comes back is found without a request, and one that dies is noticed")
    func watches() async throws {
        let house = try House(interval: .milliseconds(5))
        let job = await house.cells[0].add(1, at: 1)
        await house.cells[0].leave()
        await house.service.begin()
        _ = await #expect(throws: Failure.self) { try await house.service.status(job: job) }
        await house.cells[0].comeBack()
        while (try? await house.service.status(job: job)) == nil { await Task.yield() }
        await house.cells[0].leave()
        while await house.service.absentCells() != ["north"] { await Task.yield() }
        await house.service.close()
    }
}
