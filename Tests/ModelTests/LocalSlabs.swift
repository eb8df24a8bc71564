import Failure
import Foundation
import Model
import Tensor

/// Members of one decode in one process: a thread each, and what they tell one another in memory.
///
/// `@unchecked Sendable`: everything that changes is read and written under the condition's lock.
final class LocalSlabs: @unchecked Sendable {
    private struct Place: Hashable {
        var call: Int
        var from: Int
        var to: Int
    }

    let plan: SlabPlan
    private let condition = NSCondition()
    private var rows: [Place: Tensor] = [:]
    private var values: [Int: [Int: [Double]]] = [:]
    private var failure: Failure?
    /// Bytes that went from member to member, and how often they waited for one another.
    private(set) var movedBytes = 0
    private(set) var reductions = 0

    init(plan: SlabPlan) { self.plan = plan }

    /// Runs `body` for every member at once and returns what each gave, in their order.
    func run<Result: Sendable>(_ body: @escaping @Sendable (SlabMember) throws -> Result) throws -> [Result] {
        let done = DispatchGroup()
        let results = Results<Result>(count: plan.count)
        for index in 0..<plan.count {
            done.enter()
            let thread = Thread {
                do {
                    let exchange = LocalSlabExchange(slabs: self, index: index)
                    results.set(
                        index, .success(try body(SlabMember(plan: self.plan, index: index, exchange: exchange))))
                } catch {
                    self.end((error as? Failure) ?? Failure("slab_member_lost", "\(error)"))
                    results.set(index, .failure(error))
                }
                done.leave()
            }
            thread.stackSize = 8 << 20
            thread.start()
        }
        done.wait()
        return try results.all()
    }

    /// Ends the decode for everybody.
    func end(_ failure: Failure) {
        condition.withLock {
            if self.failure == nil { self.failure = failure }
            condition.broadcast()
        }
    }

    fileprivate func give(_ tensor: Tensor, call: Int, from: Int, to: Int) {
        condition.withLock {
            rows[Place(call: call, from: from, to: to)] = tensor
            movedBytes += tensor.byteCount
            condition.broadcast()
        }
    }

    fileprivate func take(call: Int, from: Int, to: Int) throws(Failure) -> Tensor {
        try awaited { $0.rows.removeValue(forKey: Place(call: call, from: from, to: to)) }
    }

    fileprivate func sum(_ mine: [Double], call: Int, index: Int) throws(Failure) -> [Double] {
        condition.withLock {
            values[call, default: [:]][index] = mine
            if index == 0 { reductions += 1 }
            condition.broadcast()
        }
        let all = try awaited { slabs in slabs.values[call].flatMap { $0.count == slabs.plan.count ? $0 : nil } }
        return mine.indices.map { place in
            (0..<plan.count).reduce(0) { $0 + (all[$1]?[place] ?? .nan) }
        }
    }

    private func awaited<Value>(_ value: (LocalSlabs) -> Value?) throws(Failure) -> Value {
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let failure { throw failure }
            if let found = value(self) { return found }
            condition.wait()
        }
    }

    /// `@unchecked Sendable`: as above, under a lock of its own.
    private final class Results<Value>: @unchecked Sendable {
        private let lock = NSLock()
        private var values: [Result<Value, any Error>?]

        init(count: Int) { values = Array(repeating: nil, count: count) }
        func set(_ index: Int, _ value: Result<Value, any Error>) { lock.withLock { values[index] = value } }
        func all() throws -> [Value] { try lock.withLock { try values.map { try $0!.get() } } }
    }
}

/// `@unchecked Sendable`: only its member's thread calls it.
private final class LocalSlabExchange: SlabExchange, @unchecked Sendable {
    private let slabs: LocalSlabs
    private let index: Int
    private var calls = 0

    init(slabs: LocalSlabs, index: Int) {
        self.slabs = slabs
        self.index = index
    }

    func exchange(top: Tensor?, bottom: Tensor?) throws(Failure) -> (above: Tensor?, below: Tensor?) {
        calls += 1
        if let top { slabs.give(top, call: calls, from: index, to: index - 1) }
        if let bottom { slabs.give(bottom, call: calls, from: index, to: index + 1) }
        return (
            above: top == nil ? nil : try slabs.take(call: calls, from: index - 1, to: index),
            below: bottom == nil ? nil : try slabs.take(call: calls, from: index + 1, to: index)
        )
    }

    func reduce(_ values: [Double]) throws(Failure) -> [Double] {
        calls += 1
        return try slabs.sum(values, call: calls, index: index)
    }
}
