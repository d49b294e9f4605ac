export { twice as again_ } from './twice.mjs'; import { twice } from './twice.mjs'; export const word = 'later'; export const again = twice(1);
