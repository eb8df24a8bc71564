import CLinear
import Synchronization

/// oneDNN's engine. `@unchecked Sendable`: immutable, and oneDNN's engines are thread-safe.
final class LinearEngine: @unchecked Sendable {
    fileprivate let engine: OpaquePointer

    /// Nil when oneDNN cannot run here.
    init?() {
        guard let engine = cln_engine_new() else { return nil }
        self.engine = engine
    }

    deinit { cln_engine_free(engine) }
}

/// What identifies a compiled operation. `likeRows` and `likeHeight` name the plan of the same operation whose packed
/// weights this one takes.
enum LinearPlanKey: Hashable, Sendable {
    case product(rows: Int, inputs: Int, outputs: Int, likeRows: Int?)
    case convolution(ConvolutionShape, likeHeight: Int?)
}

/// The shape of one convolution plan: the fields of `cln_convolution`.
struct ConvolutionShape: Hashable, Sendable {
    var height: Int
    var width: Int
    var inputs: Int
    var outputs: Int
    var kernel: [Int]
    var isBFloat16: Bool
    var hasBias: Bool
    var adds: Bool

    fileprivate var fields: cln_convolution {
        cln_convolution(
            frames: 1, height: Int64(height), width: Int64(width), inputs: Int64(inputs), outputs: Int64(outputs),
            kt: Int64(kernel[0]), kh: Int64(kernel[1]), kw: Int64(kernel[2]), bf16: isBFloat16, bias: hasBias,
            adds: adds)
    }
}

/// A compiled product or convolution. `@unchecked Sendable`: immutable, and plans run on several threads at once.
final class LinearPlan: @unchecked Sendable {
    private let plan: OpaquePointer
    private let engine: LinearEngine
    /// Bytes of the packed weights.
    let weightByteCount: Int
    /// Bytes of scratch for one run.
    let scratchByteCount: Int

    /// Compiles the operation; nil when oneDNN has no optimised form of it. `like` gives the form of packed weights.
    init?(_ key: LinearPlanKey, like: LinearPlan?, engine: LinearEngine) {
        let made: OpaquePointer?
        switch key {
        case .product(let rows, let inputs, let outputs, _):
            made = cln_product_plan(engine.engine, Int64(rows), Int64(inputs), Int64(outputs), like?.plan)
        case .convolution(let shape, _):
            var fields = shape.fields
            made = cln_convolution_plan(engine.engine, &fields, like?.plan)
        }
        guard let made else { return nil }
        guard cln_plan_is_fast(made) else {
            cln_plan_free(made)
            return nil
        }
        plan = made
        self.engine = engine
        weightByteCount = Int(cln_plan_weight_bytes(made))
        scratchByteCount = Int(cln_plan_scratch_bytes(made))
    }

    deinit { cln_plan_free(plan) }

    /// Whether two plans take the same packed weights.
    func takesWeights(of other: LinearPlan) -> Bool { cln_plan_same_weights(plan, other.plan) }

    /// Packs dense weights in checkpoint order, bfloat16 or float32.
    func pack(_ weights: UnsafeRawPointer, isBFloat16: Bool, into packed: UnsafeMutableRawPointer) {
        precondition(cln_plan_pack(plan, weights, isBFloat16, packed), "oneDNN could not pack weights")
    }

    /// Runs on the calling thread, which has called `cln_use_one_thread`.
    func run(
        _ x: UnsafeRawPointer, packed: UnsafeRawPointer, bias: UnsafePointer<Float>?, into y: UnsafeMutableRawPointer,
        scratch: UnsafeMutableRawPointer
    ) {
        precondition(cln_plan_run(plan, x, packed, bias, y, scratch), "oneDNN could not run a plan")
    }
}

/// The plans of one backend: at most `limit`, the least recently used goes first.
final class LinearPlanCache: Sendable {
    private struct State {
        var plans: [LinearPlanKey: (plan: LinearPlan, used: Int)] = [:]
        var clock = 0
    }

    static let limit = 512
    private let engine: LinearEngine
    private let state = Mutex(State())

    init(engine: LinearEngine) { self.engine = engine }

    /// The plan for `key`, compiled when it is not there; nil when oneDNN has no optimised form of it.
    func plan(_ key: LinearPlanKey, like: LinearPlan? = nil) -> LinearPlan? {
        state.withLock { state in
            state.clock += 1
            if let found = state.plans[key] {
                state.plans[key] = (found.plan, state.clock)
                return found.plan
            }
            guard let plan = LinearPlan(key, like: like, engine: engine) else { return nil }
            if state.plans.count >= Self.limit, let oldest = state.plans.min(by: { $0.value.used < $1.value.used }) {
                state.plans[oldest.key] = nil
            }
            state.plans[key] = (plan, state.clock)
            return plan
        }
    }
}
