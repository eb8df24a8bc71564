import Failure

extension RequestDraft {
    typealias StepCacheSettings = (method: StepCacheMethod, threshold: Double?, coefficients: [Double]?, range: Int?)

    /// The step cache with its settings, or nil for none. Fails with `step_cache_unknown`, `step_cache_unsupported` for
    /// a model that TeaCache does not know, `fields_conflict` for a setting that the method does not have,
    /// `step_cache_threshold_out_of_range` and `step_cache_range_out_of_range`.
    func checkedStepCache(_ traits: ModelTraits) throws(Failure) -> StepCacheSettings? {
        let method = try choice(stepCache, "step_cache", code: "step_cache_unknown", default: StepCacheMethod.none)
        try checkHas(stepCacheThreshold != nil, "step_cache_threshold", method, of: \.defaultThreshold)
        try checkHas(stepCacheRange != nil, "step_cache_range", method, of: \.defaultRange)
        let threshold = stepCacheThreshold ?? method.defaultThreshold
        if let threshold, !(threshold > 0 && threshold <= RequestLimits.stepCacheThreshold) {
            throw Failure(
                "step_cache_threshold_out_of_range", "step_cache_threshold is \(threshold).",
                field: "step_cache_threshold",
                remedy: "Use more than 0 and at most 1; \(method.defaultThreshold ?? 0) is the published value.")
        }
        let range = stepCacheRange ?? method.defaultRange
        if let range, !RequestLimits.stepCacheRange.contains(range) {
            throw Failure(
                "step_cache_range_out_of_range", "step_cache_range is \(range).", field: "step_cache_range",
                remedy: "Use 2 to 10; \(method.defaultRange ?? 0) is the published value.")
        }
        guard method == .teacache else { return method == .none ? nil : (method, threshold, nil, range) }
        guard let coefficients = traits.teaCacheCoefficients else {
            throw Failure(
                "step_cache_unsupported", "TeaCache has no coefficients for \(traits.name).", field: "step_cache",
                remedy: "Use first_block or pab, or put teacache_coefficients into the model's zoetrope.json.")
        }
        return (method, threshold, coefficients, range)
    }

    private func checkHas<Setting>(
        _ isGiven: Bool, _ field: String, _ method: StepCacheMethod, of setting: (StepCacheMethod) -> Setting?
    ) throws(Failure) {
        guard isGiven, setting(method) == nil else { return }
        let owners = StepCacheMethod.allCases.filter { setting($0) != nil }.map(\.rawValue).joined(separator: " or ")
        throw Failure(
            "fields_conflict", "\(field) is given, but step_cache is \(method.rawValue), which has none.",
            field: field, remedy: "Set step_cache to \(owners), or leave \(field) out.")
    }
}
