package import Failure
package import Wire

// What concerns all cells, put together from those that answer.
extension CellJobService {
    /// A page of jobs of all cells that answer, newest first. Jobs of one cell keep its own order.
    package func list(before: String, limit: Int) async throws(Failure) -> StatusPage {
        let start = try await start(before)
        let pages = try await pages { (name, cell) throws(Failure) in
            let page = try await cell.list(
                before: start.own(name, before), acceptedBefore: start.limit(for: name),
                limit: min(limit, Limits.jobsPerPage))
            return Page(cell: name, items: page.jobs, hasMore: page.hasMore)
        }
        let merged = Self.merge(pages, limit: limit, time: \.createdUnixMilliseconds)
        return StatusPage(jobs: merged.items, hasMore: merged.hasMore)
    }

    package func dead(_ query: DeadQuery) async throws(Failure) -> DeadPage {
        guard query.job.isEmpty else {
            return try await inCell(of: query.job) { (cell) throws(Failure) in try await cell.dead(query) }
        }
        let start = try await start(query.before)
        let pages = try await pages { (name, cell) throws(Failure) in
            let page = try await cell.dead(
                DeadQuery(
                    job: "", before: start.own(name, query.before), limit: query.limit,
                    beforeUnixMilliseconds: start.limit(for: name)))
            return Page(cell: name, items: page.jobs, hasMore: page.hasMore)
        }
        let merged = Self.merge(pages, limit: Int(query.limit), time: \.createdUnixMilliseconds)
        return DeadPage(jobs: merged.items, hasMore: merged.hasMore)
    }

    /// The workers of all cells, each once, and the jobs of all.
    package func cluster() async throws(Failure) -> ClusterStatus {
        let clusters = await cells().compactMap(\.cluster)
        guard !clusters.isEmpty else { throw await nobody() }
        return Self.union(clusters)
    }

    package func absentCells() async -> [String] {
        var names: [String] = []
        for member in members {
            if await member.absence != nil { names.append(await member.name ?? member.address) }
        }
        return names
    }

    static func union(_ clusters: [ClusterStatus]) -> ClusterStatus {
        if clusters.count == 1 { return clusters[0] }
        var workers: [String: ClusterStatus.Worker] = [:]
        for worker in clusters.flatMap(\.workers) {
            guard var known = workers[worker.worker] else {
                workers[worker.worker] = worker
                continue
            }
            known.busy = min(known.slots, known.busy + worker.busy)
            known.millisecondsSinceBeat = min(known.millisecondsSinceBeat, worker.millisecondsSinceBeat)
            known.isDraining = known.isDraining || worker.isDraining
            known.fetched.add(worker.fetched)
            known.warm = Array(Set(known.warm + worker.warm).sorted().prefix(Limits.warmPerWorker))
            workers[worker.worker] = known
        }
        return ClusterStatus(
            workers: workers.values.sorted { $0.worker < $1.worker },
            queuedJobs: clusters.reduce(0) { $0 + $1.queuedJobs },
            runningJobs: clusters.reduce(0) { $0 + $1.runningJobs },
            isDraining: clusters.allSatisfy(\.isDraining),
            backlogMilliseconds: clusters.map(\.backlogMilliseconds).max() ?? 0)
    }

    package func cells() async -> [CellReport] {
        await begin()
        return await withTaskGroup(of: (Int, CellReport).self) { group in
            for (index, member) in members.enumerated() {
                group.addTask {
                    let name = await member.name ?? ""
                    do throws(Failure) {
                        if let absence = await member.absence { throw absence }
                        let cluster = try await member.ask { (cell) throws(Failure) in try await cell.check() }
                        return (index, CellReport(name: cluster.cell.isEmpty ? name : cluster.cell, cluster: cluster))
                    } catch {
                        return (index, CellReport(name: name, problem: error))
                    }
                }
            }
            var reports: [(Int, CellReport)] = []
            for await report in group { reports.append(report) }
            return reports.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    /// Orders to workers go to every cell that answers: one of them is enough to make a worker leave.
    package func drain(_ drain: Drain) async throws(Failure) -> Draining { try await self.drain(drain, cell: nil) }

    package func drain(_ drain: Drain, cell: String?) async throws(Failure) -> Draining {
        var chosen = await present()
        if let cell {
            chosen = chosen.filter { $0.name == cell }
            guard !chosen.isEmpty else { throw try await absence(of: cell) }
        }
        guard !chosen.isEmpty else { throw await nobody() }
        var workers: Set<String> = []
        var drained = 0
        var problem: Failure?
        for cell in chosen {
            do throws(Failure) {
                let answer = try await cell.member.ask { (cell) throws(Failure) in try await cell.drain(drain) }
                workers.formUnion(answer.workers)
                drained += answer.broker ? 1 : 0
            } catch {
                problem = error
                guard error.code == "worker_not_found" else { throw error }
            }
        }
        if let problem, workers.isEmpty { throw problem }
        return Draining(workers: workers.sorted(), broker: drained == chosen.count)
    }

    private func absence(of cell: String) async throws(Failure) -> Failure {
        var names: [String] = []
        for member in members {
            guard let name = await member.name else { continue }
            if name == cell, let absence = await member.absence { return absence }
            names.append(name)
        }
        return Failure.cellUnknown(cell, among: names)
    }

    // MARK: Pages over several cells

    struct Page<Item: Sendable>: Sendable {
        var cell: String
        var items: [Item]
        var hasMore: Bool
    }

    /// Where a page begins: behind a job of one cell, and behind its time in the others.
    struct Start: Sendable {
        var cell = ""
        var time: UInt64 = 0

        /// The job to begin behind, in its own cell.
        func own(_ name: String, _ before: String) -> String { name == cell ? before : "" }

        /// Cells whose names come later show jobs of the same millisecond after it.
        func limit(for name: String) -> UInt64 { cell.isEmpty || name == cell ? 0 : name < cell ? time : time + 1 }
    }

    private func start(_ before: String) async throws(Failure) -> Start {
        guard !before.isEmpty else { return Start() }
        let member = try await member(of: before)
        let status = try await member.ask { (cell) throws(Failure) in try await cell.status(job: before) }
        return Start(cell: await member.name ?? "", time: status.createdUnixMilliseconds)
    }

    /// One page of every cell that answers.
    private func pages<Item: Sendable>(
        _ read: @escaping @Sendable (String, any CellService) async throws(Failure) -> Page<Item>
    ) async throws(Failure) -> [Page<Item>] {
        let cells = await present()
        guard !cells.isEmpty else { throw await nobody() }
        let results = await withTaskGroup(of: Result<Page<Item>, Failure>.self) { group in
            for cell in cells {
                group.addTask {
                    do throws(Failure) {
                        return .success(
                            try await cell.member.ask { (service) throws(Failure) in
                                try await read(cell.name, service)
                            })
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var results: [Result<Page<Item>, Failure>] = []
            for await result in group { results.append(result) }
            return results
        }
        var pages: [Page<Item>] = []
        for result in results {
            switch result {
            case .success(let page): pages.append(page)
            // A cell that has just gone is missing like one that was gone before.
            case .failure(let failure): if failure.code != "cell_unreachable" { throw failure }
            }
        }
        return pages.sorted { $0.cell < $1.cell }
    }

    /// Merges pages that each are newest first, keeping every cell's own order; between cells the newer comes first and
    /// of equal times the cell whose name comes first. Ends where a page ends whose cell has more.
    static func merge<Item>(
        _ pages: [Page<Item>], limit: Int, time: (Item) -> UInt64
    ) -> (items: [Item], hasMore: Bool) {
        var rest = pages.map { (items: $0.items[...], hasMore: $0.hasMore) }
        var merged: [Item] = []
        while merged.count < limit, !rest.contains(where: { $0.items.isEmpty && $0.hasMore }) {
            let heads = rest.indices.compactMap { index in rest[index].items.first.map { (index, time($0)) } }
            guard let newest = heads.max(by: { ($0.1, $1.0) < ($1.1, $0.0) })?.0,
                let item = rest[newest].items.popFirst()
            else { break }
            merged.append(item)
        }
        return (merged, rest.contains { !$0.items.isEmpty || $0.hasMore })
    }
}
