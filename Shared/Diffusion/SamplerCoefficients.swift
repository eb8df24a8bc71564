import Glibc

/// The scalars of one DDIM step x_prev = A·x + B·x0 (arXiv 2010.02502, eta 0), computed in double precision.
struct DDIMCoefficients {
    var sampleScale: Double
    var originalScale: Double

    init(alpha: Double, previousAlpha: Double) {
        sampleScale = ((1 - previousAlpha) / (1 - alpha)).squareRoot()
        originalScale = previousAlpha.squareRoot() - alpha.squareRoot() * sampleScale
    }
}

/// The scalars of one SDE-DPM-Solver++(2M) step (arXiv 2211.01095; diffusers `get_variables` and `get_mult`).
///
/// λ = ln √(ᾱ/(1−ᾱ)) is −∞ at zero SNR and +∞ at ᾱ = 1. Every coefficient that a step uses is then still the limit the
/// formulas tend to, because IEEE arithmetic meets no 0·∞ on the way.
struct DPMCoefficients {
    /// m1, of the sample.
    var sampleScale: Double
    /// m2, subtracted times the denoised estimate.
    var denoisedScale: Double
    /// m3 and m4: the estimate is m3·x0 − m4·x0 of the step before. Nil on the first step.
    var extrapolation: (current: Double, previous: Double)?
    /// mn, of the noise.
    var noiseScale: Double

    init(alpha: Double, previousAlpha: Double, alphaBefore: Double?) {
        func lambda(_ alpha: Double) -> Double { log((alpha / (1 - alpha)).squareRoot()) }
        let here = lambda(alpha)
        let step = lambda(previousAlpha) - here
        sampleScale = ((1 - previousAlpha) / (1 - alpha)).squareRoot() * exp(-step)
        denoisedScale = expm1(-2 * step) * previousAlpha.squareRoot()
        noiseScale = (1 - previousAlpha).squareRoot() * (1 - exp(-2 * step)).squareRoot()
        if let alphaBefore {
            let ratio = (here - lambda(alphaBefore)) / step
            extrapolation = (1 + 1 / (2 * ratio), 1 / (2 * ratio))
        }
    }
}
