package import Failure
import Synchronization
import Tensor
package import Wire

// Which cell gets a new job, and why a key never makes two.
//
// A submission with an idempotency key has a home: the cell with the highest SHA-256 of cell name, tenant and key
// (rendezvous hashing). Every gateway with the same list of cells finds the same one, whichever are alive. It is made
// there or not at all: while the home is away the answer is `cell_unreachable`, because an earlier try may lie in its
// ledger. Before a job is made, the other live cells are asked whether they know the key, so that a list that was made
// longer meanwhile, which gives some keys another home, makes no second job either.
//
// A submission without a key goes to the live cell with the least expected wait, and to the next one only when a cell
// has said that it takes none. No answer is not a refusal.
extension CellJobService {
    package func submit(_ submit: Submit) async throws(Failure) -> Accepted {
        guard submit.idempotencyKey.isEmpty else { return try await submitKeyed(submit) }
        let blobs = Self.blobs(of: submit)
        var refusal: Failure?
        for cell in await holdersFirst(of: blobs, try byExpectedWait(for: submit.tasks)) {
            do throws(Failure) {
                return try await hand(submit, to: cell.member)
            } catch {
                refusal = refusal ?? error
                guard Self.refusals.contains(error.code) else { throw error }
            }
        }
        if let refusal { throw refusal }
        throw await nobody()
    }

    /// What a broker says that takes no job of anybody now.
    private static let refusals: Set<String> = ["draining", "overloaded", "ledger_full", "ledger_unwritable"]

    private func submitKeyed(_ submit: Submit) async throws(Failure) -> Accepted {
        await begin()
        var named: [(name: String, member: CellMember)] = []
        for member in members {
            guard let name = await member.name else {
                var failure = await member.unreachable("it was never met, and its name decides where keys belong")
                failure.remedy = "Start its broker, or give the gateway its name: --broker NAME=\(member.address)."
                throw failure
            }
            named.append((name, member))
        }
        guard let home = Self.home(of: submit, among: named.map(\.name)).map({ named[$0].member }) else {
            throw await nobody()
        }
        if let absence = await home.absence { throw absence }
        if let known = try await replay(submit, in: named.map(\.member).filter { $0 !== home }) { return known }
        return try await hand(submit, to: home)
    }

    /// Index of the cell where a key belongs.
    static func home(of submit: Submit, among names: [String]) -> Int? {
        let scores = names.map {
            Digest.of(Array("\($0)\n\(submit.tenant)\n\(submit.idempotencyKey)".utf8)).description
        }
        return scores.indices.max { scores[$0] < scores[$1] }
    }

    /// The job that has the key in one of these cells.
    ///
    /// - Throws: `key_reused_with_other_body`.
    private func replay(_ submit: Submit, in members: [CellMember]) async throws(Failure) -> Accepted? {
        var question = submit
        question.replayOnly = true
        question.tasks = []
        question.specification = ""
        let asked = question
        let answers = await withTaskGroup(of: Result<Accepted, Failure>.self) { group in
            for member in members {
                guard await member.absence == nil else { continue }
                group.addTask {
                    do throws(Failure) {
                        return .success(
                            try await member.ask { (cell) throws(Failure) in try await cell.submit(asked) })
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var answers: [Result<Accepted, Failure>] = []
            for await answer in group { answers.append(answer) }
            return answers
        }
        for answer in answers {
            switch answer {
            case .success(let accepted): return accepted
            case .failure(let failure) where failure.code == "key_reused_with_other_body": throw failure
            case .failure: continue
            }
        }
        return nil
    }

    // MARK: Handing a job in

    private func hand(_ submit: Submit, to member: CellMember) async throws(Failure) -> Accepted {
        let prepared = try await bringing(Self.blobs(of: submit), of: submit, to: member)
        return try await member.ask { (cell) throws(Failure) in try await cell.submit(prepared) }
    }

    static func blobs(of submit: Submit) -> [TensorRef] {
        submit.tasks.flatMap(\.inputs).compactMap { if case .blob(let ref) = $0.source { ref } else { nil } }
    }

    /// The submission with every blob in the cell's own store: its workers may fetch from there, and it lives as long as
    /// the job.
    private func bringing(
        _ blobs: [TensorRef], of submit: Submit, to member: CellMember
    ) async throws(Failure) -> Submit {
        guard !blobs.isEmpty else { return submit }
        let own = Set(try await member.ask { (cell) throws(Failure) in try await cell.storeLocations() })
        var brought: [TensorRef: TensorRef] = [:]
        for ref in blobs where own.isDisjoint(with: ref.locations) && brought[ref] == nil {
            let bytes = try await bytes(of: ref)
            var tensor = Tensor(uninitialized: ref.shape, dtype: ref.dtype)
            guard bytes.count == tensor.byteCount else {
                throw Failure("digest_mismatch", "the stored blob \(ref.digest) has \(bytes.count) bytes")
            }
            tensor.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
            let copy = tensor
            brought[ref] = try await member.ask { (cell) throws(Failure) in try await cell.store(copy) }
        }
        var result = submit
        for task in result.tasks.indices {
            for input in result.tasks[task].inputs.indices {
                if case .blob(let ref) = result.tasks[task].inputs[input].source, let copy = brought[ref] {
                    result.tasks[task].inputs[input].source = .blob(copy)
                }
            }
        }
        return result
    }

    // MARK: The least expected wait

    /// Live cells for a job of these tasks, the best first: those with workers for all of them, those that take jobs,
    /// then by the time until their last job ends (or by the number of jobs while a time is not known), then in turn.
    func byExpectedWait(for tasks: [TaskSpecification]) async throws(Failure) -> [Present] {
        let asked = await withTaskGroup(of: (Present, ClusterStatus)?.self) { group in
            for cell in await present() {
                group.addTask {
                    guard let cluster = try? await cell.member.service.check() else { return nil }
                    return (cell, cluster)
                }
            }
            var found: [(Present, ClusterStatus)] = []
            for await one in group { if let one { found.append(one) } }
            return found
        }
        guard !asked.isEmpty else { throw await nobody() }
        let areTimesKnown = asked.allSatisfy { $0.1.unfinishedJobs == 0 || $0.1.backlogMilliseconds > 0 }
        let first = turn.wrappingAdd(1, ordering: .relaxed).oldValue
        let inTurn = asked.sorted { $0.0.name < $1.0.name }.enumerated().map { place, cell in
            (cell: cell, turn: (place + first) % asked.count)
        }
        func rank(_ cluster: ClusterStatus, _ turn: Int) -> (Int, Int, UInt64, Int) {
            (
                cluster.serves(tasks) ? 0 : 1, cluster.isDraining ? 1 : 0,
                areTimesKnown ? cluster.backlogMilliseconds : cluster.unfinishedJobs, turn
            )
        }
        return inTurn.sorted { rank($0.cell.1, $0.turn) < rank($1.cell.1, $1.turn) }.map(\.cell.0)
    }
}
