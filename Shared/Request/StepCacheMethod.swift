/// A published step cache by the name a request gives it. What each leaves out: `StepCache` in Model, and
/// docs/step-caches.md.
package enum StepCacheMethod: String, Sendable, Hashable, Codable, CaseIterable {
    /// Every step is computed in full.
    case none
    /// TeaCache (Liu et al. 2024).
    case teacache
    /// First-Block Cache (ParaAttention, diffusers).
    case firstBlock = "first_block"
    /// Pyramid Attention Broadcast (Zhao et al. 2024).
    case pyramidAttention = "pab"

    /// The threshold of the method's authors for CogVideoX (TeaCache's script, diffusers' configuration); nil where
    /// there is none.
    package var defaultThreshold: Double? {
        switch self {
        case .none, .pyramidAttention: nil
        case .teacache: 0.2
        case .firstBlock: 0.05
        }
    }

    /// The published number of steps that share one attention; nil where the method has none.
    package var defaultRange: Int? { self == .pyramidAttention ? 2 : nil }
}
