import Model
import Request

extension DenoiseParameters {
    /// The step cache as the transformer knows it; nil for none. Settings that are missing, which no request of ours
    /// leaves out, are the published ones; without coefficients there is no TeaCache.
    var transformerCache: StepCache? {
        let method = stepCache ?? .none
        let threshold = stepCacheThreshold ?? method.defaultThreshold ?? 0
        switch method {
        case .none: return nil
        case .teacache: return stepCacheCoefficients.map { .teaCache(threshold: threshold, coefficients: $0) }
        case .firstBlock: return .firstBlock(threshold: threshold)
        case .pyramidAttention: return .pyramidAttention(range: max(1, stepCacheRange ?? method.defaultRange ?? 1))
        }
    }

    /// `teacache, threshold 0.2` or the like, for notes.
    var stepCacheDescription: String {
        let name = (stepCache ?? .none).rawValue
        switch transformerCache {
        case .teaCache(let threshold, _), .firstBlock(let threshold): return "\(name), threshold \(threshold)"
        case .pyramidAttention(let range): return "\(name), range \(range)"
        case nil: return name
        }
    }
}
