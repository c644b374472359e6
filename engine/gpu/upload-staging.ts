/** How much of a model is on its way to the device at a time: for the upload that keeps to it, and for estimates that count it. */

/** writeBuffer copies into staging memory that is recycled only when the GPU has caught up. */
export const UPLOAD_STAGING_BYTES = 128 * 2 ** 20
