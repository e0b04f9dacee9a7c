// A function without a database, to measure the start of the extension.
export const handler = async () => ({});
